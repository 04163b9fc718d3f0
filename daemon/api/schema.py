"""What the HTTP interface answers: version 1 of its JSON. A key may be added within a version, never removed or changed."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Literal[1] = 1


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = Field(default=SCHEMA, serialization_alias="schema")

    def json_bytes(self) -> bytes:
        r"""Return the answer as ASCII JSON: a byte 0xNN of a name that is no UTF-8 is \udcNN, Python's surrogateescape."""
        return json.dumps(self.model_dump(by_alias=True)).encode("ascii")


class Error(BaseModel):
    code: str
    """For programs: see ERRORS in daemon/api/app.py."""
    message: str
    """For people: one sentence."""


class ErrorAnswer(Answer):
    error: Error


class Query(BaseModel):
    by: Literal["path", "id", "bytes", "text", "terms"]
    id: str | None
    """The one photo that was asked for, where a file holds it: the first result then. Ids have 63 bits, JSON numbers 53: so strings."""


class Result(BaseModel):
    score: float
    """What the metric says: cosine similarity from -1 to 1, a distance, or what a fusion of ranks adds up to."""
    id: str
    paths: list[str]
    """Every file that holds the photo."""
    unverified: list[str]
    """Those of them that cannot be told to be there: they are held as missing, or their folder is away."""
    width: int
    height: int
    format: str
    taken_at: str
    """ISO 8601 without a zone, as the camera wrote it; empty when the file does not say."""
    bytes: int
    ranks: dict[str, int] = {}
    """Its rank from 1 by each model that ranks it, where several were fused."""


class Answered(BaseModel):
    name: str
    metric: str
    photos: int
    """Vectors in the collection that answered: fewer than `of` while it is being filled."""
    of: int
    """Photos in the library."""


class SearchAnswer(Answer):
    model: str
    """The names of the models that answered, joined by "+"."""
    metric: str
    """What the scores are: the model's metric, or rrf where several models were fused."""
    query: Query
    models: list[Answered] = []
    took_ms: float
    results: list[Result]


class FolderStatus(BaseModel):
    path: str
    watch: str
    """events, or poll."""
    state: str
    """starting, watching, missing, unreadable, held, or kept."""
    files: int
    watches: int
    """Directories that the kernel tells of."""
    unwatched: int
    """Directories that are polled, because the kernel gave no watch for them."""
    held_deletions: int
    note: str


class Reconcile(BaseModel):
    """How far the walk under way has come."""

    directory: str
    files: int
    of: int
    """Files that the index has below the directory: about as many as will be met."""


class LastReconcile(BaseModel):
    finished_at: str
    seconds: float
    files: int
    added: int
    changed: int
    removed: int


class ModelStatus(BaseModel):
    name: str
    dim: int
    metric: str
    collection: str
    """The one that answers."""
    photos: int
    """Photos it has a vector of."""
    of: int
    """Photos of the library."""
    state: Literal["complete", "filling", "rebuilding"]
    """filling: it answers as far as it has come; rebuilding: the model has changed, and its earlier version answers until the new one
    is complete."""
    built: int
    """Photos the newest version has a vector of."""
    text: bool
    """Whether it understands words."""
    provider: str


class RetiredModel(BaseModel):
    """A model that is no longer configured, whose vectors are still there."""

    name: str
    collection: str
    photos: int


class UnwatchedFolder(BaseModel):
    path: str
    """A folder that was watched, or another place with no watched folder in it."""
    files: int


class Unwatched(BaseModel):
    """The content of the index that lies in folders that are not watched: answers and other counts leave it out."""

    photos: int
    """Photos that no watched file holds."""
    files: int
    failures: int
    folders: list[UnwatchedFolder]
    """The places where it lies, at most forty; `lookalike forget` takes each of them."""


class StoreStatus(BaseModel):
    name: str
    url: str
    embedded: bool
    state: Literal["ok", "away"]
    reason: str
    restarts: int
    """How often the embedded server was started again."""


class StatusAnswer(Answer):
    version: str
    state: Literal["up to date", "indexing", "filling", "degraded", "starting"]
    """filling: up to date but for the photos that some model still lacks."""
    reasons: list[str]
    """Why it is degraded, a sentence each."""
    uptime_seconds: float
    library: str
    data_dir: str
    folders: list[FolderStatus]
    photos: int
    files: int
    pending: int
    oldest_pending_seconds: float
    lag_seconds: float | None
    """Median of the last hundred changes: from the event to the photo being found, or no longer being found."""
    failures: int
    held_deletions: int
    encoded: int
    """Photos encoded since the start."""
    overflows: int
    """How often the kernel dropped events, and everything was compared anew."""
    reconciles: int
    """Walks since the start that went through."""
    reconcile: Reconcile | None
    last_reconcile: LastReconcile | None
    models: list[ModelStatus]
    retired_models: list[RetiredModel]
    skipped: dict[str, int]
    """Files that look like pictures and are not read, as the last walks met them: extension -> how many, "" for none."""
    unwatched: Unwatched | None
    """null where everything that is known is watched."""
    stores: list[StoreStatus]


class HealthAnswer(Answer):
    status: Literal["ok", "degraded", "failing"]
    reasons: list[str]


class ReadyAnswer(Answer):
    status: Literal["ready", "not ready"]
    reason: str


class HeldFolder(BaseModel):
    folder: str
    files: int
    reason: str


class Failure(BaseModel):
    path: str
    reason: str
    kind: str
    """One of daemon.errors.FAILURE_KINDS."""
    attempts: int
    since: str
    """ISO 8601 in UTC: when its content was tried for the first time."""


class SyncAnswer(Answer):
    complete: bool
    """Whether everything that was on disk at the moment of the call is in the index, or held, or failed."""
    took_seconds: float
    files: int
    """Files of the index below the path."""
    pending: int
    """Paths still to go, where it is not complete."""
    reasons: list[str]
    held: list[HeldFolder]
    failed: list[Failure]
    """The first hundred."""
    failures: int


class FailuresAnswer(Answer):
    failures: list[Failure]
    total: int


class SkippedFile(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    path: str
    extension: str
    """In lower case and with its dot; empty if the name has no extension."""


class SkippedAnswer(Answer):
    skipped: list[SkippedFile]
    """Those that are there now, at most 10,000."""
    more: bool
    """Whether there are more."""


class RetryAnswer(Answer):
    retried: int


class HeldDeletions(BaseModel):
    folder: str
    state: str
    """held, kept, missing or unreadable."""
    reason: str
    since: str
    files: int
    recorded: int
    paths: list[str]


class DeletionsAnswer(Answer):
    folders: list[HeldDeletions]


class ReloadAnswer(Answer):
    applied: list[str]
    """Keys whose new values are in force."""
    restart: list[str]
    """Keys whose new values hold from the next start on."""


class DecisionAnswer(Answer):
    folder: HeldDeletions
    files: int
    """Files that the decision is about."""


class RemovedModelAnswer(Answer):
    model: str
    collections: int
    """Collections that were dropped."""
    vectors: int


class Difference(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    kind: str
    """One of KINDS in daemon/verify/report.py."""
    count: int
    what: str
    """The kind in words."""
    examples: list[str]


class ModelVectors(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    vectors: int


class VerifyAnswer(Answer):
    model_config = ConfigDict(from_attributes=True)

    took_seconds: float
    files: int
    photos: int
    models: list[ModelVectors]
    failures: int
    deep: bool
    sampled: int
    """Photos that were read and asked for by their own bytes."""
    pending: int
    """Suspicions that could not be decided, since their files were still waiting for their turn."""
    differences: list[Difference]
    at_least: bool
    """Whether there may be more: not all that was suspected was looked at."""
    repaired: bool
    mended: int


class ImportAnswer(Answer):
    model_config = ConfigDict(from_attributes=True)

    photos: int
    """Photos that came with vectors of a configured model."""
    bound: int
    """Files that are there as they were exported: known from now on, without having been read."""
    kept: int
    """Files that are missing, and known for when their folder is back."""
    known: int
    """Files that were in the index already."""
    left: int
    """Files that the walk which follows has to find: changed, elsewhere, or gone."""
    vectors: dict[str, int]
    """Vectors that were written, by the name of their model."""
    notes: list[str]
    """A sentence for each thing that was not used."""


class RelocationAnswer(Answer):
    model_config = ConfigDict(from_attributes=True)

    files: int
    """Files that were known in the old place."""
    moved: int
    kept: int
    """Missing ones that are known in the new place, since it was decided in the old one to keep them."""
    changed: int
    """Files that are different in the new place, and are read by a walk."""
    missing: int
    """Files that are not in the new place; they stay known in the old one."""
    failures: int
    """Files that could not be indexed, known as such in the new place."""
    dry_run: bool


class ForgetAnswer(Answer):
    path: str
    files: int
    photos: int
    """Photos that no file elsewhere holds: their vectors are deleted, too."""
    failures: int
    dry_run: bool
