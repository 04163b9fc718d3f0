"""The daemon's HTTP interface over its Unix socket."""

from __future__ import annotations

import json
import select
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import urlencode

from cli.errors import CliError, RefusedError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from cli.answers import (
        DecisionAnswer,
        DeletionsAnswer,
        FailuresAnswer,
        ForgetAnswer,
        ImportAnswer,
        ReloadAnswer,
        RelocationAnswer,
        RemovalAnswer,
        RetryAnswer,
        SearchAnswer,
        SkippedAnswer,
        StatusAnswer,
        SyncAnswer,
        VerifyAnswer,
    )

SCHEMA = 1
HTTP_OK = 200

# Covariant, so that what takes any answer takes each; every answer is a TypedDict.
AnswerT_co = TypeVar("AnswerT_co", bound="Mapping[str, object]", covariant=True)


class Reply(NamedTuple, Generic[AnswerT_co]):
    """An answer, and the bytes it was read from."""

    answer: AnswerT_co
    raw: bytes


class Query(NamedTuple):
    """At most how many photos are asked for, of which models, and how several are fused; the rest is the daemon's choice."""

    limit: int | None = None
    models: tuple[str, ...] = ()
    fuse: str | None = None

    def target(self) -> str:
        """Return the request target."""
        fields = [("limit", str(self.limit))] if self.limit else []
        fields += [("model", model) for model in self.models]
        fields += [("fuse", self.fuse)] if self.fuse else []
        return "/v1/search" + ("?" + urlencode(fields, errors="surrogateescape") if fields else "")


class Client:
    """One connection to the daemon, opened by the first request and kept for the next.

    Every method raises DaemonUnreachable when no answer comes within `timeout_seconds` of silence, RefusedError when
    the answer is an error, and CliError when it is not understood. What takes `wait_seconds` lets the daemon be silent
    for so much longer.
    """

    def __init__(self, socket_path: Path, *, timeout_seconds: float) -> None:
        # http.client brings email and ssl with it, a quarter of the start-up time, and help can do without.
        from cli.connection import UnixConnection  # noqa: PLC0415

        self._socket_path = socket_path
        self._connection = UnixConnection(socket_path, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def status(self) -> Reply[StatusAnswer]:
        """Return what the daemon says about itself."""
        return self._exchange("GET", "/v1/status", None, {})

    def search_path(self, path: str, stat: os.stat_result, query: Query) -> Reply[SearchAnswer]:
        """Ask by the vector stored for `path`; RefusedError("not_in_library") when it is unknown or has changed since."""
        return self._post(query.target(), {"path": path, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns})

    def search_terms(self, terms: Sequence[Mapping[str, object]], query: Query) -> Reply[SearchAnswer]:
        """Ask by a combination; RefusedError("not_in_library") as for search_path, RefusedError("no_text_model") for a text."""
        return self._post(query.target(), {"terms": terms})

    def search_bytes(self, chunks: Iterator[bytes], size: int | None, query: Query) -> Reply[SearchAnswer]:
        """Ask by an image's bytes; of unknown size (None) they travel in chunked transfer encoding."""
        headers = {"Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)
        try:
            return self._exchange("POST", query.target(), self._until_answered(chunks), headers)
        finally:
            # After an early answer the body is not complete, and the connection is of no further use.
            self.close()

    def reload(self) -> Reply[ReloadAnswer]:
        """Have the configuration read again; RefusedError("bad_configuration") when it cannot be used."""
        return self._post("/v1/reload", {})

    def sync(self, path: str | None, *, wait_seconds: float) -> Reply[SyncAnswer]:
        """Wait, at most so long, until the index holds what is on disk now below `path`, or (None) in every folder."""
        target = "/v1/sync?" + urlencode({"timeout": wait_seconds})
        return self._post(target, {} if path is None else {"path": path}, wait_seconds)

    def verify(self, *, deep: bool, repair: bool) -> Reply[VerifyAnswer]:
        """Compare disk, mapping and vectors; RefusedError("busy") while another comparison is under way."""
        return self._post("/v1/verify", {"deep": deep, "repair": repair})

    def failures(self, path: str | None) -> Reply[FailuresAnswer]:
        """Return the files at or below `path`, or (None) of the whole library, that could not be indexed."""
        return self._get("/v1/failures", "path", path)

    def skipped(self, path: str | None) -> Reply[SkippedAnswer]:
        """Return the files at or below `path`, or (None) of every folder, that look like pictures and are not read."""
        return self._get("/v1/skipped", "path", path)

    def retry_failures(self, path: str | None) -> Reply[RetryAnswer]:
        """Have those files looked at again."""
        return self._post("/v1/failures/retry", {} if path is None else {"path": path})

    def deletions(self, folder: str | None) -> Reply[DeletionsAnswer]:
        """Return what is held: all paths of `folder`, or (None) the first of each."""
        return self._get("/v1/deletions", "folder", folder)

    def approve_deletions(self, folder: str) -> Reply[DecisionAnswer]:
        """Take what is held for `folder` out of the index; RefusedError("not_held") when nothing is."""
        return self._post("/v1/deletions/approve", {"folder": folder})

    def reject_deletions(self, folder: str) -> Reply[DecisionAnswer]:
        """Keep what is held for `folder` in the index until it is back; RefusedError("not_held") when nothing is."""
        return self._post("/v1/deletions/reject", {"folder": folder})

    def remove_model(self, name: str) -> Reply[RemovalAnswer]:
        """Have the vectors of a model deleted; RefusedError("model_in_use") while it is live, "unknown_model" when it has none."""
        return self._post("/v1/models/remove", {"model": name})

    def export(self) -> Iterator[bytes]:
        """Yield an export of the library as it is made."""
        status, pieces = self._connection.stream("/v1/export")
        if status != HTTP_OK:
            self._decode(status, b"".join(pieces))
            raise CliError(self._not_understood(status))
        yield from pieces

    def import_export(
        self, chunks: Iterator[bytes], size: int | None, moved: Sequence[tuple[str, str]]
    ) -> Reply[ImportAnswer]:
        """Send an export, of unknown size (None) or not; RefusedError("not_an_export") where it cannot be used."""
        fields = [field for old, new in moved for field in (("from", old), ("to", new))]
        target = "/v1/import" + ("?" + urlencode(fields, errors="surrogateescape") if fields else "")
        headers = {"Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)
        try:
            return self._exchange("POST", target, self._until_answered(chunks), headers)
        finally:
            self.close()

    def relocate(self, old: str, new: str, *, dry_run: bool) -> Reply[RelocationAnswer]:
        """Have what is known below `old` known below `new`; RefusedError("still_there", "not_watched", …) when that cannot be meant."""
        return self._post("/v1/relocate", {"from": old, "to": new, "dry_run": dry_run})

    def forget(self, path: str, *, dry_run: bool) -> Reply[ForgetAnswer]:
        """Drop a folder that is not watched from the index; RefusedError("still_watched", "not_in_library") otherwise."""
        return self._post("/v1/forget", {"path": path, "dry_run": dry_run})

    def _get(self, address: str, name: str, value: str | None) -> Reply[Any]:
        target = address if value is None else f"{address}?{urlencode({name: value}, errors='surrogateescape')}"
        return self._exchange("GET", target, None, {})

    def _post(self, target: str, asked: Mapping[str, object], wait_seconds: float = 0) -> Reply[Any]:
        # json escapes to ASCII, so a name that is not UTF-8 travels as lone surrogates: os.fsencode() restores its bytes.
        body = json.dumps(asked).encode("ascii")
        return self._exchange("POST", target, body, {"Content-Type": "application/json"}, wait_seconds)

    def _until_answered(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield `chunks` until the daemon speaks: "too large" comes early, and a pipe may have no end."""
        for chunk in chunks:
            if select.select([self._connection.sock], [], [], 0)[0]:
                return
            yield chunk

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | Iterator[bytes] | None,
        headers: dict[str, str],
        wait_seconds: float = 0,
    ) -> Reply[Any]:
        status, raw = self._connection.ask(method, target, body, headers, wait_seconds=wait_seconds)
        return Reply(self._decode(status, raw), raw)

    def _decode(self, status: int, raw: bytes) -> Any:
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise CliError(self._not_understood(status)) from error
        schema = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(schema, int):
            raise CliError(self._not_understood(status))
        if schema != SCHEMA:
            message = (
                f"this lookalike is older than the daemon: it knows schema {SCHEMA}, the daemon answers in {schema}"
            )
            raise CliError(message)
        if "error" in answer:
            raise RefusedError(answer["error"]["code"], answer["error"]["message"])
        return answer

    def _not_understood(self, status: int) -> str:
        return f"what listens on {self._socket_path} does not answer like lookaliked (HTTP status {status})"
