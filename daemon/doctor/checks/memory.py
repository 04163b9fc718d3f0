"""Memory: what this machine has, against the models, the vectors and the photos in hand."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from daemon.catalogue.files import located_all, parts
from daemon.config import MEBIBYTE
from daemon.doctor.amounts import count, dimensions, shown
from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

DAEMON_BYTES = 400 << 20
"""lookaliked with its libraries and no model."""
MODEL_COPIES = 2
"""A graph's weights, and as the kernels of onnxruntime want them."""
MILVUS_BYTES = 300 << 20
VECTOR_BYTES = 8
"""What the embedded Milvus has in memory of each number: 100,000 vectors of 1,280 take 1.1 GB."""
MAPPING_BYTES = 600
"""What Valkey has in memory of a photo with one file."""
TIGHT = 0.8


def check(context: Context) -> Iterator[Finding]:
    total = _total(context)
    if total is None:
        yield note("this system does not tell how much memory it has (/proc/meminfo)")
        return
    needed = _needed(context)
    told = f"about {shown(needed)} are needed for {count(context.photos, 'photo')}, and the machine has {shown(total)}"
    if needed > total:
        yield problem(
            f"{told}: use a Milvus of your own on another machine (milvus.uri), or models of fewer dimensions",
            "lookalike models list",
        )
    elif needed > TIGHT * total:
        yield warning(f"{told}: that is tight beside other programs", "free -h")
    else:
        yield ok(told)
    bound = context.settings.limits.decode_memory_mebibytes * MEBIBYTE
    if bound > total:
        yield warning(
            f"one photo may take {shown(bound)} to decode (limits.decode_memory_mebibytes), which is more than the machine has; "
            f"set it to {total // 2 // MEBIBYTE}"
        )


def _needed(context: Context) -> int:
    needed = DAEMON_BYTES + MODEL_COPIES * sum(_weights(context))
    if context.embedded_milvus:
        needed += MILVUS_BYTES + context.photos * VECTOR_BYTES * dimensions(context)
    return needed + (context.photos * MAPPING_BYTES if context.embedded_redis else 0)


def _weights(context: Context) -> Iterator[int]:
    for name in context.settings.models:
        with suppress(ConfigError, ModelError, OSError):
            spec = context.catalogue.load(name)
            for part in parts(spec):
                yield sum(path.stat().st_size for path in located_all(spec, part, context.settings.models_dir))


def _total(context: Context) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", context.machine.text("meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
