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


class SearchAnswer(TypedDict):
    """The answer to POST /v1/search, as far as this command reads it."""

    schema: int
    model: str
    metric: str
    took_ms: float
    results: list[Match]


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
    """One encoder and how many photos its collection holds."""

    name: str
    dim: int
    metric: str
    collection: str
    photos: int
    provider: str


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
    state: Literal["up to date", "indexing", "degraded", "starting"]
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
