"""What the daemon answers: schema 1 of its HTTP interface. An earlier daemon leaves out what is not required.

These are types alone, and imported only by type checkers: no command has to wait for them.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Match(TypedDict):
    """One photo, the most similar first; `paths` are all its files, of which `unverified` cannot be looked at now."""

    score: float
    id: str
    paths: list[str]
    unverified: NotRequired[list[str]]
    width: int
    height: int
    format: str
    taken_at: str
    bytes: int
    ranks: NotRequired[dict[str, int]]


class SearchQuery(TypedDict):
    """What was asked; `id` is that of the one photo that was asked about, where the library knows it."""

    by: Literal["path", "id", "bytes", "text", "terms"]
    id: str | None


class Answered(TypedDict):
    """A model that answered: it knows `photos` of those of the library so far."""

    name: str
    metric: str
    photos: int
    of: int


class SearchAnswer(TypedDict):
    """The answer to POST /v1/search, as far as this command reads it."""

    schema: int
    model: str
    metric: str
    query: SearchQuery
    models: NotRequired[list[Answered]]
    took_ms: float
    results: list[Match]


class PairOverlap(TypedDict):
    """How many photos the lists of two models have in common, and what share of the longest list that is."""

    models: list[str]
    photos: int
    share: float


class Overlap(TypedDict):
    """How many of `of` photos, the length of the longest list, all lists have in common, and which."""

    photos: int
    of: int
    share: float
    ids: list[str]
    pairs: list[PairOverlap]


class ComparisonAnswer(TypedDict):
    """What `lookalike compare --json` prints: an answer for each model, and how far they agree."""

    schema: int
    models: list[SearchAnswer]
    overlap: Overlap


class Folder(TypedDict):
    """One watched folder; `note` is a sentence or empty, `unwatched` counts directories that are polled instead."""

    path: str
    watch: Literal["events", "poll"]
    state: str
    files: int
    note: str
    unwatched: NotRequired[int]


class Reconciliation(TypedDict):
    """The last comparison of the folders with the index."""

    finished_at: str
    seconds: float
    files: int
    added: int
    changed: int
    removed: int


class Walk(TypedDict):
    """The comparison that is under way: `files` seen so far, `of` about so many."""

    directory: str
    files: int
    of: int


class Model(TypedDict):
    """One model: the collection that answers for it has vectors of `photos`, its newest version of `built`."""

    name: str
    dim: int
    metric: str
    collection: str
    photos: int
    of: NotRequired[int]
    state: NotRequired[Literal["complete", "filling", "rebuilding"]]
    built: NotRequired[int]
    text: NotRequired[bool]
    provider: str


class RetiredModel(TypedDict):
    """A model that is no longer configured, whose vectors are still there."""

    name: str
    collection: str
    photos: int


class UnwatchedFolder(TypedDict):
    """A place that is not watched, and in which the index knows files."""

    path: str
    files: int


class Unwatched(TypedDict):
    """The content of the index that lies in folders that are not watched."""

    photos: int
    files: int
    failures: int
    folders: list[UnwatchedFolder]


class Store(TypedDict):
    """One of the two stores; `reason` says why it is away."""

    name: str
    url: str
    embedded: bool
    state: Literal["ok", "away"]
    reason: str


class StatusAnswer(TypedDict):
    """The answer to GET /v1/status."""

    schema: int
    version: str
    state: Literal["up to date", "indexing", "filling", "degraded", "starting"]
    reasons: list[str]
    uptime_seconds: float
    library: str
    data_dir: str
    folders: list[Folder]
    photos: int
    files: int
    pending: int
    oldest_pending_seconds: float
    lag_seconds: float | None
    failures: int
    held_deletions: int
    encoded: int
    last_reconcile: Reconciliation | None
    reconcile: NotRequired[Walk | None]
    models: list[Model]
    retired_models: NotRequired[list[RetiredModel]]
    skipped: NotRequired[dict[str, int]]
    unwatched: NotRequired[Unwatched | None]
    stores: list[Store]


class Failure(TypedDict):
    """A file that could not be indexed; `since` is ISO 8601."""

    path: str
    reason: str
    attempts: int
    since: str


class Held(TypedDict):
    """How many files below a folder are missing without being taken out of the index, and why."""

    folder: str
    files: int
    reason: str


class SyncAnswer(TypedDict):
    """The answer to POST /v1/sync; `failed` holds the first of `failures`."""

    schema: int
    complete: bool
    took_seconds: float
    files: int
    pending: int
    reasons: list[str]
    held: list[Held]
    failed: list[Failure]
    failures: int


class Vectors(TypedDict):
    """How many vectors the collection of a model holds."""

    name: str
    vectors: int


class Difference(TypedDict):
    """What is wrong in one way: `what` explains the kind, `examples` are the first of `count`."""

    kind: str
    count: int
    what: str
    examples: list[str]


class VerifyAnswer(TypedDict):
    """The answer to POST /v1/verify; `differences` are what is left after mending, or of that `at_least`, `sampled` is 0 unless deep.

    `pending` are suspicions that could not be decided while their files were waiting for their turn.
    """

    schema: int
    took_seconds: float
    files: int
    photos: int
    models: list[Vectors]
    failures: int
    deep: bool
    sampled: int
    pending: NotRequired[int]
    differences: list[Difference]
    at_least: NotRequired[bool]
    repaired: bool
    mended: int


class FailuresAnswer(TypedDict):
    """The answer to GET /v1/failures."""

    schema: int
    failures: list[Failure]
    total: int


class SkippedFile(TypedDict):
    """A file that looks like a picture and is not read; `extension` is empty if its name has no extension."""

    path: str
    extension: str


class SkippedAnswer(TypedDict):
    """The answer to GET /v1/skipped."""

    schema: int
    skipped: list[SkippedFile]
    more: bool


class ReloadAnswer(TypedDict):
    """The answer to POST /v1/reload: keys whose new values are in force, and those that need a restart."""

    schema: int
    applied: list[str]
    restart: list[str]


class RetryAnswer(TypedDict):
    """The answer to POST /v1/failures/retry."""

    schema: int
    retried: int


class Deletions(TypedDict):
    """What is missing below one folder; `files` are held of `recorded`, `paths` are the first of them."""

    folder: str
    state: str
    reason: str
    since: str
    files: int
    recorded: int
    paths: list[str]


class DeletionsAnswer(TypedDict):
    """The answer to GET /v1/deletions."""

    schema: int
    folders: list[Deletions]


class DecisionAnswer(TypedDict):
    """The answer to POST /v1/deletions/approve and reject: the folder after it, and how many files it was about."""

    schema: int
    folder: Deletions
    files: int


class RemovalAnswer(TypedDict):
    """The answer to POST /v1/models/remove: how many collections are gone, and the vectors that were in them."""

    schema: int
    model: str
    collections: int
    vectors: int


class ExportAnswer(TypedDict):
    """What `lookalike export --json` prints: where the export is, and how much is in it; `vectors` by the version of their model."""

    schema: int
    file: str
    bytes: int
    photos: int
    files: int
    failures: int
    vectors: dict[str, int]


class ImportAnswer(TypedDict):
    """The answer to POST /v1/import: of the files, those that are `bound` as they were exported, and what became of the others."""

    schema: int
    photos: int
    bound: int
    kept: int
    known: int
    left: int
    vectors: dict[str, int]
    notes: list[str]


class RelocationAnswer(TypedDict):
    """The answer to POST /v1/relocate: of `files`, those that `moved`, and what is with the others."""

    schema: int
    files: int
    moved: int
    kept: int
    changed: int
    missing: int
    failures: int
    dry_run: bool


class ForgetAnswer(TypedDict):
    """The answer to POST /v1/forget: how much the index knew about a folder or a file."""

    schema: int
    path: str
    files: int
    photos: int
    failures: int
    dry_run: bool
