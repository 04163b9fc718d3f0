"""Stores that are servers of the user's own: whether they answer, are new enough, and keep what they are given."""

from __future__ import annotations

import re
import shlex
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daemon.doctor.finding import Finding, ok, problem, warning
from daemon.errors import StoreError, StoreRefused, StoreUnavailable
from daemon.index.keys import Keys
from daemon.index.mappings import Mappings
from daemon.index.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_REDIS = (6, 0)
"""It knows the protocol that redis-py speaks (RESP3), and copies a script's effects and not the script."""
OLDEST_MILVUS = (2, 3)
"""The oldest that lookalike is tried with; it has upsert."""
REDIS_SECONDS = 5.0
_LISTENING = "ss --listening --tcp --numeric  # on the server: shows what listens"


def redis_findings(url: str) -> Iterator[Finding]:
    """Yield what is to be said of the Redis server at `url`."""
    try:
        with closing(Mappings(url, Keys("doctor"), timeout_seconds=REDIS_SECONDS)) as mappings:
            info, place = mappings.server(), mappings.url
    except StoreError as error:
        yield problem(f"{error}; start it, or correct redis.url", *_to_redis(error.url), _LISTENING)
        return
    found = [*_redis_version(info, place), *_redis_role(info, place), *_redis_keeps(info, place)]
    yield from found
    if not found:
        yield ok(f"Redis at {place} answers, is of version {info['redis_version']}, and keeps what it is given")


def _redis_version(info: dict[str, Any], place: str) -> Iterator[Finding]:
    # Valkey also says which Redis it is like.
    version = str(info.get("redis_version", ""))
    if is_older(version, OLDEST_REDIS):
        yield problem(
            f"Redis at {place} is of version {version or 'unknown'}, and lookalike needs {_dotted(OLDEST_REDIS)} or later; update it",
            "docker run --publish 127.0.0.1:6379:6379 valkey/valkey  # or the package of your system",
        )


def _redis_role(info: dict[str, Any], place: str) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield problem(
            f"Redis at {place} is a replica, which may not be written to; name its master {info.get('master_host', '')} in redis.url",
            *_to_redis(place, "ROLE"),
        )
    if info.get("cluster_enabled"):
        yield problem(
            f"Redis at {place} is a cluster, and lookalike changes keys of several slots at once; use a single server",
            *_to_redis(place, "CLUSTER", "INFO"),
        )


def _redis_keeps(info: dict[str, Any], place: str) -> Iterator[Finding]:
    policy, bound = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if policy != "noeviction" and bound:
        yield problem(
            f"Redis at {place} forgets keys when its {bound / 1e6:,.0f} MB are full (maxmemory-policy {policy}): photos would go missing",
            *_to_redis(place, "CONFIG", "SET", "maxmemory-policy", "noeviction"),
            *_to_redis(place, "CONFIG", "REWRITE"),
        )
    if not info.get("aof_enabled"):
        yield warning(
            f"Redis at {place} keeps no append-only file; what it loses when it restarts costs reading those files again",
            *_to_redis(place, "CONFIG", "SET", "appendonly", "yes"),
            *_to_redis(place, "CONFIG", "REWRITE"),
        )


def _to_redis(place: str, *command: str) -> tuple[str, ...]:
    """Return the command line that asks the server; the password is for the user to put in."""
    parts = urlsplit(place)
    if parts.scheme == "unix":
        server = ["-s", parts.path]
    else:
        server = ["-h", parts.hostname or "localhost", "-p", str(_port(parts.netloc) or 6379)]
    return (shlex.join(["redis-cli", *server, *(command or ("PING",))]),)


def _port(netloc: str) -> int | None:
    found = re.search(r":(\d+)$", netloc)
    return int(found[1]) if found else None


def milvus_findings(uri: str, token: str, *, timeout_seconds: float) -> Iterator[Finding]:
    """Yield what is to be said of the Milvus server at `uri`."""
    try:
        with closing(Vectors(uri, token=token, timeout_seconds=timeout_seconds)) as vectors:
            version = vectors.server_version()
    except StoreRefused as error:
        yield problem(str(error), *_to_milvus(uri))
        return
    except StoreUnavailable as error:
        yield problem(f"{error}; start it, or correct milvus.uri", *_to_milvus(uri), _LISTENING)
        return
    if is_older(version, OLDEST_MILVUS):
        yield problem(
            f"Milvus at {uri} is of version {version}, and lookalike needs {_dotted(OLDEST_MILVUS)} or later; update it",
            "docker pull milvusdb/milvus",
        )
    else:
        yield ok(f"Milvus at {uri} answers, and is of version {version.removeprefix('v')}")


def _to_milvus(uri: str) -> tuple[str, ...]:
    host = urlsplit(uri).hostname
    # The port of its health check, whatever the one of its interface is.
    return (f"curl http://{host}:9091/healthz",) if host else ()


def is_older(said: str, oldest: tuple[int, ...]) -> bool:
    """Whether a version, such as v2.3.5 or milvus_lite-3.2.2, is an earlier one; one without numbers is a developer's."""
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found is not None and tuple(map(int, found[0].split("."))) < oldest


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
