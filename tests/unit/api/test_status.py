"""What the status says in each state of the daemon, from doubles of its parts."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.api.metrics import exposition
from daemon.api.schema import Answer, HealthAnswer, Reconcile, Unwatched, UnwatchedFolder
from daemon.api.status import SILENT_SECONDS, Status, Store
from daemon.changes import Hold
from daemon.errors import StoreUnavailable
from daemon.index.index import Collection
from daemon.index.mappings import Counts
from daemon.outages import Outage
from daemon.watch.folder import FolderView, WatchedFolder, view_of

HOLD = Hold("why", frozenset({"/p/a"}), 2, 0.0)

if TYPE_CHECKING:
    from collections.abc import Callable


class Mappings:
    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.written = 0
        self.found = Counts(photos=2, files=3, failures=1)
        self.failed = ["/p/bad"]
        self.below = {"/p": 3}
        self.once = ["/p"]

    def counts(self) -> Counts:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis", "unix:///r", "cannot be reached")
        return self.found

    def failed_paths(self) -> list[str]:
        return self.failed

    def aside(self) -> set[int]:
        return {7}

    def encoded(self, collection: str, ids: list[int]) -> list[bool]:  # noqa: ARG002
        return [False for _ in ids]

    def photos_below(self, folders: tuple[str, ...]) -> set[int]:  # noqa: ARG002
        return {1}

    def all_encoded(self, collection: str) -> set[int]:  # noqa: ARG002
        return {1, 2}

    def remembered(self) -> list[str]:
        return self.once

    def failure_kinds(self, counts: Callable[[str], bool]) -> dict[str, int]:  # noqa: ARG002
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis", "unix:///r", "cannot be reached")
        return {"damaged": 1}

    def count_below(self, folder: str) -> int:
        return self.below[folder]

    def count_encoded(self, collection: str) -> int:
        return {"lib_m_1f": 1, "lib_m_0f": 2, "lib_old_0f": 7}[collection]


class Parts:
    """The parts of a daemon that has nothing to do."""

    def __init__(self) -> None:
        self.mappings = Mappings()
        self.now, self.before, self.gone = (
            Collection(model, f"{model}-{version}", f"lib_{model}_{version}", f"lib_{model}", 8, "cosine")
            for model, version in (("m", "1f"), ("m", "0f"), ("old", "0f"))
        )
        self.retired: list[Collection] = []
        self.answering = self.now
        self.index = SimpleNamespace(
            mappings=self.mappings,
            collections=[self.now, self.before],
            current=[self.now],
            retired=lambda: self.retired,
            answering=lambda _: self.answering,
        )
        self.backfill = SimpleNamespace(active=False, lacks=lambda _: False)
        encoder = SimpleNamespace(provider="CPUExecutionProvider")
        self.outage = Outage()
        watch: Any = SimpleNamespace(overflows=3, watches=7, refused={"/p/a": 28})
        self.folder = WatchedFolder("/p", "auto", watch, FolderView(state="watching"))
        self.watcher = SimpleNamespace(
            folders=[self.folder], walked=True, busy=False, reconciles=5, walking="", files_walked=0,
            folder_of=lambda path: self.folder if self.folder.contains(path) else None,
            is_watched=self.folder.contains,
            skipped=SimpleNamespace(by_extension={".cr2": 2, "": 1}),
        )  # fmt: skip
        self.pending: Any = []
        parts: Any = {
            "index": self.index,
            "indexer": SimpleNamespace(outage=self.outage, lag_seconds=0.12345, backfill=self.backfill, encoded=4),
            "watcher": self.watcher,
            "pending": _Pending(self.pending),
            "models": SimpleNamespace(by_version={"m-1f": encoder, "m-0f": encoder}, texts={"m-1f": None}),
            "stores": [
                Store("Redis", "unix:///r", SimpleNamespace(restarts=1)),
                Store("Milvus", "http://m:19530", None),
            ],
        }
        self.well_at = time.monotonic()
        self.status = Status(
            library="lib", data_dir="/d", well_at=lambda: self.well_at, started=time.monotonic(), **parts
        )

    def show(self, *, holds: tuple[Hold, ...] = (), **view: Any) -> None:
        """Have the folder look like this."""
        self.folder.view = replace(view_of(self.folder.view, holds), **view)


class _Pending(list[str]):
    def __init__(self, of: list[str]) -> None:
        super().__init__()
        self._of = of

    def __len__(self) -> int:
        return len(self._of)

    def oldest_seconds(self) -> float:
        return 1.5 if self._of else 0.0


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_the_version_of_the_schema_is_called_schema() -> None:
    answer = HealthAnswer(status="ok", reasons=[])
    assert json.loads(answer.json_bytes()) == {"schema": 1, "status": "ok", "reasons": []}


def test_an_answer_is_ascii_whatever_is_in_it() -> None:
    class Said(Answer):
        path: str

    assert Said(path="/é\udce9😀\n").json_bytes() == rb'{"schema": 1, "path": "/\u00e9\udce9\ud83d\ude00\n"}'


def test_what_a_service_manager_shows_is_in_words(parts: Parts) -> None:
    parts.status.refresh()
    assert parts.status.words(0, 0) == "up to date: 2 photos"
    parts.pending.append("/p/new.jpg")
    assert parts.status.words(1204, 3796) == "indexing: 1,204 of 5,000"
    parts.pending.clear()
    parts.watcher.walked = False
    assert parts.status.words(0, 0) == "comparing the folders with the index"
    parts.outage.reason = "Redis is away"
    assert parts.status.words(0, 0) == "degraded: Redis is away"
    parts.show(state="held", note="why", holds=(HOLD,))
    assert parts.status.words(0, 0) == "degraded: Redis is away (and 1 more)"


def test_words_for_a_service_manager_ask_no_store(parts: Parts) -> None:
    parts.status.words(0, 0)
    assert parts.mappings.asked == 0


def test_a_daemon_with_nothing_to_do_is_up_to_date(parts: Parts) -> None:
    answer = parts.status.answer()
    assert (answer.state, answer.reasons) == ("up to date", [])
    assert (answer.photos, answer.files, answer.failures, answer.encoded) == (2, 3, 1, 4)
    assert answer.skipped == {".cr2": 2, "": 1}
    assert (answer.lag_seconds, answer.folders[0].files, answer.models[0].photos) == (0.123, 3, 1)
    assert (answer.folders[0].watches, answer.folders[0].unwatched) == (7, 1)
    assert (answer.overflows, answer.reconciles, answer.reconcile) == (3, 5, None)
    assert [(store.embedded, store.state, store.restarts) for store in answer.stores] == [
        (True, "ok", 1),
        (False, "ok", 0),
    ]
    assert parts.status.health().status == "ok"
    assert parts.status.idle


@pytest.mark.parametrize("why", ["pending", "walk"])
def test_a_daemon_with_work_is_indexing(parts: Parts, why: str) -> None:
    if why == "pending":
        parts.pending.append("/p/a")
    else:
        parts.watcher.busy = True
    assert parts.status.answer().state == "indexing"
    assert not parts.status.idle


def test_a_daemon_that_has_not_walked_yet_is_starting(parts: Parts) -> None:
    parts.watcher.walked = False
    assert parts.status.answer().state == "starting"


def test_how_far_a_walk_has_come_is_told(parts: Parts) -> None:
    parts.watcher.walking, parts.watcher.files_walked = "/p", 2
    assert parts.status.answer().reconcile == Reconcile(directory="/p", files=2, of=3)
    # How many files are below a part of a folder is not counted.
    parts.watcher.walking = "/p/sub"
    assert parts.status.answer().reconcile == Reconcile(directory="/p/sub", files=2, of=0)


@pytest.mark.parametrize("state", ["missing", "unreadable", "held"])
def test_a_folder_that_is_not_well_is_a_reason(parts: Parts, state: str) -> None:
    parts.show(state=state, note="why", holds=(HOLD,) if state == "held" else ())
    answer = parts.status.answer()
    assert (answer.state, answer.reasons) == ("degraded", ["/p: why"])
    # Of a folder that is away, everything is held.
    assert answer.held_deletions == (1 if state == "held" else parts.mappings.count_below("/p"))
    assert parts.status.health().status == "degraded"


@pytest.mark.parametrize("state", ["missing", "kept"])
def test_a_folder_that_was_decided_about_is_no_reason(parts: Parts, state: str) -> None:
    holds = (replace(HOLD, decision="kept"),) if state == "kept" else ()
    parts.show(state=state, note="why", holds=holds, allowance=2)
    answer = parts.status.answer()
    assert (answer.state, answer.reasons, answer.folders[0].note) == ("up to date", [], "why")


def test_metrics_say_what_the_status_says(parts: Parts) -> None:
    text, _ = exposition(parts.status.answer(), {"damaged": 1})
    families = text_string_to_metric_families(text.decode())
    told = {sample.name: sample.value for family in families for sample in family.samples}
    assert (
        told.items()
        >= {
            "lookalike_photos": 2,
            "lookalike_files": 3,
            "lookalike_failures": 1,
            "lookalike_pending_paths": 0,
            "lookalike_oldest_pending_seconds": 0,
            "lookalike_held_deletions": 0,
            "lookalike_watches": 7,
            "lookalike_unwatched_directories": 1,
            "lookalike_degraded": 0,
            "lookalike_model_photos": 1,
            "lookalike_model_built_photos": 1,
            "lookalike_encoded_photos_total": 4,
            "lookalike_overflows_total": 3,
            "lookalike_reconciles_total": 5,
            "lookalike_store_up": 1,
            "lookalike_store_restarts_total": 1,
        }.items()
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text; version=abc;;", "application/openmetrics-text"),
    ],
)
def test_a_scraper_chooses_the_format(parts: Parts, accept: str, kind: str) -> None:
    text, content_type = exposition(parts.status.answer(), {}, accept)
    assert content_type.partition(";")[0] == kind
    assert text.endswith(b"# EOF\n") == (kind != "text/plain")


def test_files_that_are_not_indexed_are_counted_by_kind_as_last_known(parts: Parts) -> None:
    assert parts.status.failure_kinds() == {"damaged": 1}
    parts.mappings.away = True
    assert parts.status.failure_kinds() == {"damaged": 1}
    parts.outage.store, parts.outage.reason = "Redis", "away"
    asked = parts.mappings.asked
    assert parts.status.failure_kinds() == {"damaged": 1}
    assert parts.mappings.asked == asked


def test_a_daemon_is_ready_while_both_stores_are_there(parts: Parts) -> None:
    assert (parts.status.ready().status, parts.status.ready().reason) == ("ready", "")
    parts.outage.store, parts.outage.reason = "Milvus", "Milvus at m cannot be reached"
    assert (parts.status.ready().status, parts.status.ready().reason) == ("not ready", "Milvus at m cannot be reached")
    # Starting the daemon again would not bring the store back.
    assert (parts.status.health().status, parts.status.health().reasons) == ("degraded", [parts.outage.reason])


def test_a_daemon_that_stops_is_not_ready_and_well(parts: Parts) -> None:
    assert (parts.status.ready("lookaliked is stopping").status, parts.status.health().status) == ("not ready", "ok")


def test_a_daemon_whose_main_thread_hangs_is_failing(parts: Parts) -> None:
    parts.well_at -= SILENT_SECONDS + 1
    (reason,) = parts.status.health().reasons
    assert re.fullmatch(r"the daemon has not looked after its parts for 6\d s", reason)
    assert parts.status.health().status == "failing"
    assert (parts.status.ready().status, parts.status.ready().reason) == ("not ready", reason)


def test_a_store_that_is_away_is_a_reason_and_the_last_numbers_stay(parts: Parts) -> None:
    parts.status.answer()
    parts.mappings.away = True
    assert parts.status.answer().photos == 2
    parts.outage.store, parts.outage.reason = "Redis", "Redis at unix:///r cannot be reached"
    asked = parts.mappings.asked
    answer = parts.status.answer()
    assert (answer.state, answer.reasons, answer.photos) == ("degraded", [parts.outage.reason], 2)
    assert [store.state for store in answer.stores] == ["away", "ok"]
    # One that is known to be away may hang, and is not waited for.
    assert parts.mappings.asked == asked


def test_a_model_is_complete_and_says_whether_it_understands_words(parts: Parts) -> None:
    (model,) = parts.status.answer().models
    assert (model.name, model.collection, model.state) == ("m", "lib_m_1f", "complete")
    assert (model.photos, model.of, model.built, model.text) == (1, 2, 1, True)


def test_a_model_that_is_being_filled_leaves_the_index_up_to_date_but_for_it(parts: Parts) -> None:
    parts.backfill.active, parts.backfill.lacks = True, "lib_m_1f".__eq__
    answer = parts.status.answer()
    assert (answer.state, answer.models[0].state) == ("filling", "filling")
    assert not parts.status.idle


def test_a_daemon_that_walks_is_indexing_whatever_is_being_filled(parts: Parts) -> None:
    parts.backfill.active, parts.watcher.busy = True, True
    assert parts.status.answer().state == "indexing"


def test_a_changed_model_is_answered_for_by_its_earlier_version(parts: Parts) -> None:
    parts.answering = parts.before
    (model,) = parts.status.answer().models
    assert (model.collection, model.state, model.photos, model.built) == ("lib_m_0f", "rebuilding", 2, 1)


def test_what_is_not_watched_is_told_apart_and_counts_nowhere_else(parts: Parts) -> None:
    assert parts.status.answer().unwatched is None
    parts.mappings.found = Counts(photos=9, files=10, failures=3)
    parts.mappings.failed += ["/old/bad", "/old/worse"]
    parts.mappings.below["/old"] = 7
    parts.mappings.once.append("/old")
    parts.mappings.written += 1
    answer = parts.status.answer()
    assert (answer.photos, answer.files, answer.failures) == (1, 3, 1)
    assert [(model.photos, model.of, model.built) for model in answer.models] == [(1, 1, 1)]
    assert answer.unwatched == Unwatched(photos=8, files=7, failures=2, folders=[UnwatchedFolder(path="/old", files=7)])


def test_vectors_of_a_model_that_is_no_longer_configured_are_told(parts: Parts) -> None:
    parts.retired = [parts.gone]
    (retired,) = parts.status.answer().retired_models
    assert (retired.name, retired.collection, retired.photos) == ("old", "lib_old_0f", 7)
