"""A file that is being downloaded: its bytes so far, and of which file of the server they are."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from daemon import ownership
from daemon.catalogue.whole import let_others_read, publish
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 16 * 1024**3
_CHUNK_BYTES = 256 * 1024
_NOTE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Remote:
    """A file behind `url`; `credentials` are headers for that host alone, and go to none that it redirects to.

    `identity` is another one as soon as the file is: what was begun under another identity is not gone on with.
    """

    url: str
    sha256: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""


class Part:
    """The bytes so far, and beside them what tells whether the server's file is still the one they are of."""

    def __init__(self, name: str, remote: Remote, path: Path) -> None:
        self.name, self.remote, self.path = name, remote, path
        self._partial = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self.done = 0
        self.validator = ""
        self.digest = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = os.fdopen(ownership.open_file(self._partial, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            reason = f"another command is downloading {self.path.name} at this moment; wait for it."
            raise ModelError(self.name, reason) from error
        self._recall()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.done:
            self._forget()
        self._file.close()

    @property
    def complete(self) -> bool:
        """Whether what there is is known to be all."""
        return self.digest.hexdigest() == self.remote.sha256

    def _recall(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(ownership.read_file(self._note, _NOTE_BYTES, owners={os.geteuid()}))
            if note["url"] == self.remote.url.partition("?")[0] and note["identity"] == self.remote.identity:
                self.validator = str(note["validator"])
        if not self.validator:
            self.restart("")
            return
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            self.digest.update(chunk)
            self.done += len(chunk)

    def restart(self, validator: str) -> None:
        """Forget what there is; the bytes that follow are of the file that the server calls `validator`."""
        self._file.truncate(0)
        self.done, self.validator, self.digest = 0, validator, hashlib.sha256()
        # What signs the address of a file is another one each time.
        note = {
            "url": self.remote.url.partition("?")[0],
            "identity": self.remote.identity,
            "validator": validator,
        }
        ownership.write_file(self._note, json.dumps(note).encode())

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)
        self.done += len(chunk)
        if self.done > MAX_BYTES:
            self.discard()
            raise ModelError(self.name, too_large(self.remote.url))

    def finish(self) -> None:
        """Verify what there is, and give it its name."""
        self._file.flush()
        digest = self.digest.hexdigest()
        if self.remote.sha256 is not None and digest != self.remote.sha256:
            self.discard()
            reason = (
                f"what came from {self.remote.url} has the SHA-256 {digest} where {self.remote.sha256} was expected, and was "
                "thrown away; pull it again, or correct its spec if the new file is meant."
            )
            raise ModelError(self.name, reason)
        let_others_read(self._file.fileno())
        publish(self._partial, self.path)
        self._forget()

    def discard(self) -> None:
        """Forget what there is."""
        self.restart("")

    def _forget(self) -> None:
        for leftover in (self._partial, self._note):
            leftover.unlink(missing_ok=True)


def too_large(url: str) -> str:
    """Return why a file is refused."""
    return f"{url} is larger than {MAX_BYTES // 1024**3} GiB, which no model here may be; use a smaller one."
