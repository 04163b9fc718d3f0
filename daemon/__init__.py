"""lookaliked: keeps a photo library indexed while the library changes."""

__version__ = "0.1.0"
