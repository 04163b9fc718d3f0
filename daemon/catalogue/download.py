"""Downloads that go on where an earlier one stopped, and that are verified before they get their name."""

from __future__ import annotations

import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import daemon
from daemon.catalogue import partial
from daemon.catalogue.partial import Part, Remote, too_large
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[str, int, int | None], None]
    """Is told of a file how many bytes of how many (None: nobody knows) there are."""

_CHUNK_BYTES = 256 * 1024
_SILENCE_SECONDS = 30.0
_ATTEMPTS = 4
"""So many in a row that bring nothing."""
_PAUSE_SECONDS = 0.5
_GIGABYTE = 1e9


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
        with Part(name, remote, path) as part:
            _persist(part, progress)
            part.finish()
            return part.digest.hexdigest()
    except OSError as error:
        reason = f"{path} cannot be written ({error.strerror or error}); free space there, or allow it."
        raise ModelError(name, reason) from error


def _persist(part: Part, progress: Progress) -> None:
    """Fetch until all is there; an attempt that brings something begins the count anew."""
    failed = 0
    # A download may have been ended between its last byte and its name.
    while not part.complete:
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


def _fetch(part: Part, progress: Progress) -> None:
    with _response(part) as response:
        total = _accept(part, response)
        progress(part.path.name, part.done, total)
        try:
            while chunk := response.read1(_CHUNK_BYTES):
                part.write(chunk)
                progress(part.path.name, part.done, total)
        except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            raise _Interrupted(_why(error)) from error
    if total is not None and part.done < total:
        raise _Interrupted(f"it broke off after {part.done:,} of {total:,} bytes")


@contextmanager
def _response(part: Part) -> Iterator[http.client.HTTPResponse]:
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


def _headers(part: Part) -> dict[str, str]:
    headers = {"User-Agent": f"lookalike/{daemon.__version__}", "Accept-Encoding": "identity"}
    if part.done:
        # RFC 9110, 13.1.5: the rest if the file is still the same, else the whole one.
        headers |= {"Range": f"bytes={part.done}-", "If-Range": part.validator}
    return headers


def _refusal(part: Part, status: int) -> Exception:
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


def _accept(part: Part, response: http.client.HTTPResponse) -> int | None:
    """Return how many bytes the whole file has, if the server says so, once there is room for them."""
    length = response.headers.get("Content-Length", "")
    coming = int(length) if length.isdecimal() else None
    if response.status != http.client.PARTIAL_CONTENT:
        part.restart(_validator(response))
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.done}-"):
        part.restart("")
        raise _Interrupted("the server sent another part than it was asked for")
    total = None if coming is None else part.done + coming
    if total is not None and total > partial.MAX_BYTES:
        raise ModelError(part.name, too_large(part.remote.url))
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


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server was silent for {_SILENCE_SECONDS:.0f} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
