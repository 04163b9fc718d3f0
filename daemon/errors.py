"""Every error a part of lookaliked raises on purpose.

    LookalikeError          its text is one sentence for a person, and says what to do next
    ├── ConfigError         the configuration cannot work: exit status 78
    ├── ModelError          a model cannot be loaded, or returns what cannot be a vector: 78 at start
    ├── AlreadyRunning      another daemon holds the data directory
    ├── LibraryInUse        another daemon holds the lease of the library
    ├── ServiceError        the service cannot be installed or taken away
    ├── PhotoError          this photo cannot be indexed; the others can
    ├── DecoderError        no process can be started in which photos are decoded
    ├── QueryError          this question cannot be answered as it was asked
    ├── ExportError         this file is no export that can be used
    └── StoreError
        ├── StoreUnavailable    Redis or Milvus is away; work is kept until it is back
        └── StoreRefused        the store answers, and refuses what was asked of it
            └── StoreForbids    its user may not run that command

Errors of libraries and of the system are turned into one of these where they arise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


FailureKind = Literal[
    "damaged",
    "not_an_image",
    "too_large",
    "unreadable",
    "timeout",
    "crashed",
    "no_vector",
    "collision",
    "internal",
    "other",
]
"""Why a file is not indexed, for programs. `crashed`: it made its decoder end; `no_vector`: no model gives one; `collision`: its id
is that of another photo; `internal`: lookaliked, or a library of it, failed or crashed while it worked on it; `other`: recorded by a
lookalike that did not say."""
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


MAX_REASON = 4000
"""Characters of the reason for which a photo is not indexed: it may quote a path, and an import takes no more than 10,000."""


class LookalikeError(Exception):
    """Base of all; `str()` is a sentence to show unchanged, or several lines of them.

    Whatever a sentence quotes is printable in it. So the only line ends are those between `lines`.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))


def shown(error: object) -> str:
    """Return what an error, or anything else, says, printable; only the text of an error of ours may have several lines."""
    return str(error) if isinstance(error, LookalikeError) else printable(str(error))


class ConfigError(LookalikeError):
    """The configuration at `source` has `problems`, each with its place."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(map(printable, problems))
        super().__init__(f"{source} cannot be used:", *(f"  {problem}" for problem in problems))


class ModelError(LookalikeError):
    """The model `name` cannot be used, for `reason`."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = printable(reason)
        super().__init__(f"Model {name}: {reason}")


class AlreadyRunning(LookalikeError):  # noqa: N818 - it reads as the sentence it is
    """Another lookaliked works on the same data directory."""


class LibraryInUse(LookalikeError):  # noqa: N818 - as above
    """Another lookaliked writes to the same library in the same Redis; the text names it."""


class ServiceError(LookalikeError):
    """The service of systemd cannot be installed or taken away as asked."""


class PhotoError(LookalikeError):
    """The file at `path` cannot be indexed, for `reason`; recorded, and tried again when the file changes."""

    def __init__(self, path: str, reason: str, kind: FailureKind = "damaged") -> None:
        self.path = path
        self.reason = printable(reason)[:MAX_REASON]
        self.kind = kind
        super().__init__(f"{path}: {reason}")


class DecoderError(LookalikeError):
    """No decoder can be had, for `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no process can be started in which photos are decoded: {reason}")


class QueryError(LookalikeError):
    """A question that cannot be answered as asked: `code` for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ExportError(LookalikeError):
    """An export of a library cannot be used: the text says in half a sentence why, as in "it ends early"."""


class StoreError(LookalikeError):
    """The `store` (Redis or Milvus) at `url` did not do what was asked, for `reason`."""

    def __init__(self, store: str, url: str, reason: str) -> None:
        self.store = store
        self.url = url
        self.reason = printable(reason)
        super().__init__(f"{store} at {url} {reason}")


class StoreUnavailable(StoreError):  # noqa: N818 - it reads as the sentence it is
    """The store does not answer now; the same call may succeed later."""


class StoreRefused(StoreError):  # noqa: N818 - it reads as the sentence it is
    """The store answered with an error that waiting will not mend."""


class StoreForbids(StoreRefused):
    """The user of the store may not run that command."""
