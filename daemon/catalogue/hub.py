"""Files of huggingface.co: the library huggingface_hub knows where they are and who may read them.

It is not asked to download them: after a download that broke off, its release 2.4 starts anew.
"""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daemon.catalogue.partial import Remote
from daemon.errors import ModelError
from daemon.installing import installing_text

if TYPE_CHECKING:
    from daemon.encode.specs import HuggingFaceSource

_SHA256 = re.compile(r"[0-9a-f]{64}")


def hub_remote(name: str, source: HuggingFaceSource, file: str) -> Remote:
    """Return where `file` of the source's repository is, at its revision; ModelError says why it cannot be had.

    The hub names the SHA-256 of large files, which is verified when the spec gives none.
    """
    hub = _library(name)
    address = hub.hf_hub_url(source.repository, file, revision=source.revision)
    headers = hub.utils.build_hf_headers()
    try:
        found = hub.get_hf_file_metadata(address)
    # Its HTTP library, and with it the base of its errors, has changed between releases: requests, httpx, httpx2.
    except Exception as error:
        raise ModelError(name, _reason(source, file, urlsplit(address).netloc, error)) from error
    tag = found.etag or ""
    pinned = source.sha256 if file == source.file else None
    return Remote(
        found.location,
        sha256=pinned or (tag if _SHA256.fullmatch(tag) else None),
        credentials=_credentials(headers, address, found.location),
        identity=f"{address} {tag}",
    )


def _library(name: str) -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        reason = f"it is pulled from huggingface.co, which takes the package huggingface_hub; run {installing_text()}."
        raise ModelError(name, reason) from error
    return huggingface_hub


def _credentials(headers: dict[str, str], address: str, location: str) -> dict[str, str]:
    """Return the token's header for the hub itself; large files lie on other hosts, behind signed addresses."""
    token = headers.get("authorization")
    same = urlsplit(address).netloc == urlsplit(location).netloc
    return {"Authorization": token} if token and same else {}


def _reason(source: HuggingFaceSource, file: str, host: str, error: Exception) -> str:
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    where = f"{source.repository} on {host}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    # The special before the general: a gated repository is one that was not found, and all have an HTTP status.
    sentences = {
        errors.OfflineModeIsEnabled: f"HF_HUB_OFFLINE is set, and its files are on {host}; unset it to pull them.",
        errors.GatedRepoError: f"{where} has to be asked for: accept its terms there, run `hf auth login`, and pull it again.",
        errors.RevisionNotFoundError: f"{where} has no revision {source.revision}; correct 'revision' in its spec.",
        errors.EntryNotFoundError: f"{where} has no file {file} at revision {source.revision}; correct 'file' in its spec.",
        errors.RepositoryNotFoundError: (
            f"there is no {where}, or you may not read it; correct 'repository', or run `hf auth login`."
        ),
        errors.HfHubHTTPError: _status_reason(where, file, status),
    }
    otherwise = f"{host} cannot be reached ({_cause(error)}); look at the connection, and pull it again."
    return next((sentence for kind, sentence in sentences.items() if isinstance(error, kind)), otherwise)


def _status_reason(where: str, file: str, status: int | None) -> str:
    if status == http.client.NOT_FOUND:
        return f"{where} has no {file} (HTTP status 404); correct its spec, or HF_ENDPOINT where that is set."
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return f"{where} may not be read by you (HTTP status {status}); run `hf auth login`, and pull it again."
    return f"{where} cannot be read (HTTP status {status}); pull it again later."


def _cause(error: BaseException) -> str:
    """Return what the system said of a connection, where an error of the HTTP library wraps that; else the kind of error."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return "it was silent for too long" if "timeout" in type(error).__name__.lower() else type(error).__name__
