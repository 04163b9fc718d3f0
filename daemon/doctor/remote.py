"""Stores that are servers of the user's own: whether they answer, are new enough, and keep what they are given."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.doctor.redis_address import RedisAddress
from daemon.errors import StoreError, StoreForbids, StoreRefused, StoreUnavailable
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
PROBE_SECONDS = 2.0
"""How long each of three attempts may take to find out whether TLS is spoken."""
_LISTENING = "ss --listening --tcp --numeric  # on the server: shows what listens"


def redis_findings(url: str) -> Iterator[Finding]:
    """Yield what is to be said of the Redis server at `url`."""
    try:
        with closing(Mappings(url, Keys("doctor"), timeout_seconds=REDIS_SECONDS)) as mappings:
            place = mappings.url
            info = mappings.server()
    except StoreForbids as error:
        yield _no_info(RedisAddress.of(url), error.url)
        return
    except StoreError as error:
        yield _without_redis(url, error)
        return
    address = RedisAddress.of(url)
    found = [*_redis_version(info, place), *_redis_role(info, place, address), *_redis_keeps(info, place, address)]
    yield from found
    if not found:
        yield ok(f"Redis at {place} answers, is of version {info['redis_version']}, and keeps what it is given")


def _no_info(address: RedisAddress, place: str) -> Finding:
    user = address.user or "default"
    return note(
        f"Redis at {place} answers, but its user {user} may not run INFO, so nobody can tell here whether the server is new enough and keeps "
        "what it is given; grant that permission as an administrator of the server, for this check alone",
        address.command("ACL", "SETUSER", user, "+info", as_user=False),
    )


def _without_redis(url: str, error: StoreError) -> Finding:
    """Return the problem with a server that does not answer as it should."""
    try:
        address = RedisAddress.of(url)
    except ValueError:
        return problem(str(error))
    match address.spoken(PROBE_SECONDS) if isinstance(error, StoreUnavailable) else "":
        case "plain":
            return problem(
                f"Redis at {error.url} answers without TLS, and rediss:// asks for TLS; write redis:// in redis.url, or turn TLS on in the server",
                replace(address, scheme="redis").command("PING"),
            )
        case "tls":
            return problem(
                f"Redis at {error.url} speaks TLS, and redis:// does without; write rediss:// in redis.url",
                replace(address, scheme="rediss").command("PING"),
            )
        case "untrusted":
            return problem(
                f"Redis at {error.url} shows a certificate that this machine does not trust for {address.host}; name its authority in "
                "redis.url (?ssl_ca_certs=FILE) or in SSL_CERT_FILE",
                address.command("PING"),
            )
    return problem(f"{error}; start it, or correct redis.url", address.command("PING"), _LISTENING)


def _redis_version(info: dict[str, Any], place: str) -> Iterator[Finding]:
    # Valkey also says which Redis it is like.
    version = str(info.get("redis_version", ""))
    if is_older(version, OLDEST_REDIS):
        yield problem(
            f"Redis at {place} is of version {version or 'unknown'}, and lookalike needs {_dotted(OLDEST_REDIS)} or later; update it",
            "docker run --publish 127.0.0.1:6379:6379 valkey/valkey  # or the package of your system",
        )


def _redis_role(info: dict[str, Any], place: str, address: RedisAddress) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield problem(
            f"Redis at {place} is a replica, which may not be written to; name its master {info.get('master_host', '')} in redis.url",
            address.command("ROLE"),
        )
    if info.get("cluster_enabled"):
        yield problem(
            f"Redis at {place} is a cluster, and lookalike changes keys of several slots at once; use a single server",
            address.command("CLUSTER", "INFO"),
        )


def _redis_keeps(info: dict[str, Any], place: str, address: RedisAddress) -> Iterator[Finding]:
    policy, bound = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if policy != "noeviction" and bound:
        yield problem(
            f"Redis at {place} forgets keys when its {bound / 1e6:,.0f} MB are full (maxmemory-policy {policy}): photos would go missing",
            address.command("CONFIG", "SET", "maxmemory-policy", "noeviction"),
            address.command("CONFIG", "REWRITE"),
        )
    if not info.get("aof_enabled"):
        yield warning(
            f"Redis at {place} keeps no append-only file; what it loses when it restarts costs reading those files again",
            address.command("CONFIG", "SET", "appendonly", "yes"),
            address.command("CONFIG", "REWRITE"),
        )


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
