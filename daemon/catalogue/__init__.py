"""What a person does with models: look for them, add, pull, try and remove them. `lookalike models` runs it in its own process."""

from daemon.errors import ConfigError, LookalikeError

__all__ = ["ConfigError", "LookalikeError"]
