"""What differs between two configurations, and what of it a daemon that runs takes up. Pure: it compares values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from daemon.config import Section

if TYPE_CHECKING:
    from daemon.config import Config

RESTART = frozenset({
    "library", "data_dir", "cache_dir", "runtime_dir", "socket",
    "redis.url", "milvus.uri", "milvus.token",
    "api.group", "api.admin_group", "api.listen", "api.token", "api.admin_token", "api.certificate", "api.key",
    "log.format",
})  # fmt: skip
"""Keys that hold from the next start on: the lock, the stores and the sockets were taken by them. All others hold from a reload on."""


class Difference(NamedTuple):
    """The keys that differ, in the order in which they are documented."""

    applied: tuple[str, ...]
    restart: tuple[str, ...]


def values(config: Config) -> dict[str, Any]:
    """Return every value of a configuration by its key, such as `watch.ignore`."""
    found: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            found.update((f"{name}.{inner}", getattr(value, inner)) for inner in type(value).model_fields)
        else:
            found[name] = value
    return found


def difference(running: Config, wanted: Config) -> Difference:
    """Return what differs in the configuration that is wanted."""
    before, after = values(running), values(wanted)
    changed = [key for key in after if before[key] != after[key]]
    return Difference(
        tuple(key for key in changed if key not in RESTART), tuple(key for key in changed if key in RESTART)
    )


def in_force(running: Config, wanted: Config) -> Config:
    """Return what holds after a reload: what is wanted, but what was running of that which needs a restart."""
    kept = values(running)
    for key in difference(running, wanted).restart:
        name, _, inner = key.partition(".")
        value = getattr(wanted, name).model_copy(update={inner: kept[key]}) if inner else kept[key]
        wanted = wanted.model_copy(update={name: value})
    return wanted
