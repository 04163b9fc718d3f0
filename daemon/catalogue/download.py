"""Downloads that go on where an earlier one stopped, and that are verified before they get their name."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import daemon
from daemon.catalogue.whole import publish
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Progress = Callable[[str, int, int | None], None]
    """Is told of a file how many bytes of how many (None: nobody knows) there are."""

MAX_BYTES = 16 * 1024**3
_CHUNK_BYTES = 256 * 1024
_SILENCE_SECONDS = 30.0
_ATTEMPTS = 4
"""So many in a row that bring nothing."""
_PAUSE_SECONDS = 0.5
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Remote:
    """A file behind `url`; `credentials` are headers for that host alone, and go to none that it redirects to.

    `identity` is another one as soon as the file is: what was begun under another identity is not gone on with.
    """

    url: str
    sha256: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""


class _Interrupted(Exception):  # noqa: N818 - the transfer is
    """The transfer broke off for a `reason` that may pass."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def download(name: str, remote: Remote, path: Path, progress: Progress) -> str:
    """Put the file of the model `name` to `path`, whole and verified, and return its SHA-256.

    Until then its bytes are in PATH.part, which stays when the download breaks off: the next one goes on there, if the
    server still has the same file and hands out parts of it. ModelError says why there is no file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Part(name, remote, path) as part:
            _persist(part, progress)
            part.finish()
            return part.digest.hexdigest()
    except OSError as error:
        reason = f"{path} cannot be written ({error.strerror or error}); free space there, or allow it."
        raise ModelError(name, reason) from error


class _Part:
    """The bytes so far, and beside them what tells whether the server's file is still the one they are of."""

    def __init__(self, name: str, remote: Remote, path: Path) -> None:
        self.name, self.remote, self.path = name, remote, path
        self._partial = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self.done = 0
        self.validator = ""
        self.digest = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = self._partial.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            reason = f"another command is downloading {self.path.name} at this moment; wait for it."
            raise ModelError(self.name, reason) from error
        self._recall()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.done:
            self._forget()

    def _recall(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_bytes())
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
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)
        self.done += len(chunk)
        if self.done > MAX_BYTES:
            self.discard()
            raise ModelError(self.name, _too_large(self.remote.url))

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
        publish(self._partial, self.path)
        self._forget()

    def discard(self) -> None:
        self._file.truncate(0)
        self.done = 0

    def _forget(self) -> None:
        for leftover in (self._partial, self._note):
            leftover.unlink(missing_ok=True)


def _persist(part: _Part, progress: Progress) -> None:
    """Fetch until all is there; each attempt that brings something gives new courage."""
    failed = 0
    while True:
        before = part.done
        try:
            _fetch(part, progress)
        except _Interrupted as error:
            failed = failed + 1 if part.done <= before else 1
            if failed >= _ATTEMPTS:
                kept = f" {part.done / 1e6:,.1f} MB are kept;" if part.done else ""
                reason = f"{part.remote.url} cannot be downloaded ({error.reason});{kept} pull it again to go on."
                raise ModelError(part.name, reason) from error
            time.sleep(_PAUSE_SECONDS * failed)
        else:
            return


def _fetch(part: _Part, progress: Progress) -> None:
    with _response(part) as response:
        total = _accept(part, response)
        progress(part.path.name, part.done, total)
        try:
            while chunk := response.read1(_CHUNK_BYTES):
                part.write(chunk)
                progress(part.path.name, part.done, total)
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise _Interrupted(_why(error)) from error
    if total is not None and part.done < total:
        raise _Interrupted(f"it broke off after {part.done:,} of {total:,} bytes")
    if total is not None and part.done > total:
        part.discard()
        raise _Interrupted(f"{part.done:,} bytes came where {total:,} were announced")


@contextmanager
def _response(part: _Part) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(part.remote.url, headers=_headers(part))  # noqa: S310 - a spec's URL is http(s)
    for header, value in part.remote.credentials.items():
        request.add_unredirected_header(header, value)
    try:
        opened = urllib.request.urlopen(request, timeout=_SILENCE_SECONDS)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(part, error.code) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_why(error)) from error
    with opened as response:
        yield response


def _headers(part: _Part) -> dict[str, str]:
    headers = {"User-Agent": f"lookalike/{daemon.__version__}", "Accept-Encoding": "identity"}
    if part.done:
        # RFC 9110, 13.1.5: the rest if the file is still the same, else the whole one.
        headers |= {"Range": f"bytes={part.done}-", "If-Range": part.validator}
    return headers


def _refusal(part: _Part, status: int) -> Exception:
    if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.done:
        part.restart("")
        return _Interrupted("the server's file is shorter than what there was of it")
    if status in (http.client.TOO_MANY_REQUESTS, http.client.REQUEST_TIMEOUT) or status >= 500:  # noqa: PLR2004 - HTTP
        return _Interrupted(f"the server answers with HTTP status {status}")
    phrase = http.client.responses.get(status, "an unknown status")
    return ModelError(
        part.name,
        f"{part.remote.url} cannot be downloaded (HTTP status {status}, {phrase}); correct the address in its spec.",
    )


def _accept(part: _Part, response: http.client.HTTPResponse) -> int | None:
    """Return how many bytes the whole file has, if the server says so, once there is room for them."""
    length = response.headers.get("Content-Length", "")
    coming = int(length) if length.isdecimal() else None
    if response.status != http.client.PARTIAL_CONTENT:
        part.restart(_validator(response))
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.done}-"):
        part.restart("")
        raise _Interrupted("the server sent another part than it was asked for")
    total = None if coming is None else part.done + coming
    if total is not None and total > MAX_BYTES:
        raise ModelError(part.name, _too_large(part.remote.url))
    free = shutil.disk_usage(part.path.parent).free
    if coming is not None and coming > free:
        reason = (
            f"{part.remote.url} needs another {coming / _GIGABYTE:.2f} GB, and {part.path.parent} has {free / _GIGABYTE:.2f} GB "
            "free; free some, or set 'data_dir' to a larger disk."
        )
        raise ModelError(part.name, reason)
    return total


def _validator(response: http.client.HTTPResponse) -> str:
    """Return what If-Range takes: a strong entity tag, else the time of the last change; empty where there is neither."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _too_large(url: str) -> str:
    return f"{url} is larger than {MAX_BYTES // 1024**3} GiB, which no model here may be; use a smaller one."


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server was silent for {_SILENCE_SECONDS:.0f} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
