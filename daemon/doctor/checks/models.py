"""The models of the configuration: their specs, their files, and whether those are the ones that the specs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.catalogue.configured import complaints
from daemon.catalogue.files import located_all, parts
from daemon.doctor.finding import Finding, ok, problem
from daemon.encode.sources import verified
from daemon.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context
    from daemon.encode.specs import ModelSpec

VERIFIED_BYTES = 256 << 20
"""A larger file is not read: pulling verified it, and starting does."""


def check(context: Context) -> Iterator[Finding]:
    reading = context.reading
    if reading is None:
        yield ok("they are not looked at, since the configuration cannot be read")
        return
    wrong = [sentence for _, sentence in complaints(reading, context.catalogue)]
    yield from (problem(sentence, *_mend(sentence)) for sentence in wrong)
    specs = list(_specs(context))
    damaged = [finding for spec in specs for finding in _damaged(spec, context)]
    yield from damaged
    if not wrong and not damaged:
        names = ", ".join(spec.name for spec in specs)
        yield ok(f"{names}: all files are on this machine, and are those that the specs mean")


def _specs(context: Context) -> Iterator[ModelSpec]:
    for named in context.reading.models if context.reading else ():
        try:
            yield context.catalogue.load(named.model)
        except ConfigError:
            # It has been complained of.
            continue


def _damaged(spec: ModelSpec, context: Context) -> Iterator[Finding]:
    """Read the files that have a checksum in the spec, where they are of a size that is read in no time."""
    for part in parts(spec):
        try:
            path, *_ = located_all(spec, part, context.settings.models_dir)
            if part.source.sha256 is not None and path.stat().st_size <= VERIFIED_BYTES:
                verified(spec.name, part.source, path)
        except ModelError as error:
            if part.source.sha256 is not None and part.source.sha256 in error.reason:
                yield problem(str(error).removesuffix("."), *_mend(error.reason))
        except OSError:
            # It is missing, or cannot be read: both have been complained of.
            continue


def _mend(sentence: str) -> tuple[str, ...]:
    """Return the commands that a sentence names, which stand in it between backticks."""
    quoted = [part for part in sentence.split("`")[1::2] if part]
    return tuple(quoted) or ("lookalike models list",)
