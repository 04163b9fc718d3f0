"""What the status says in each state of the daemon, from doubles of its parts."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.api.schema import Answer, HealthAnswer
from daemon.api.status import Status, Store
from daemon.errors import StoreUnavailable
from daemon.index.mappings import Counts
from daemon.indexer import Outage


class Mappings:
    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def counts(self) -> Counts:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis", "unix:///r", "cannot be reached")
        return Counts(photos=2, files=3, failures=1)

    def count_below(self, folder: str) -> int:  # noqa: ARG002
        return 3

    def count_encoded(self, collection: str) -> int:  # noqa: ARG002
        return 2


class Parts:
    """The parts of a daemon that has nothing to do."""

    def __init__(self) -> None:
        self.mappings = Mappings()
        collection = SimpleNamespace(name="lib_m_0f", model="m", dim=8, metric="cosine")
        self.index = SimpleNamespace(mappings=self.mappings, collections=[collection])
        self.outage = Outage()
        self.folder = SimpleNamespace(
            path="/p", mode="events", state="watching", note="", held_deletions=0, held=0, last=None,
            watch=SimpleNamespace(overflows=0),
        )  # fmt: skip
        self.watcher = SimpleNamespace(folders=[self.folder], walked=True, busy=False)
        self.pending: Any = []
        parts: Any = {
            "index": self.index,
            "indexer": SimpleNamespace(outage=self.outage, lag_seconds=0.12345),
            "watcher": self.watcher,
            "pending": _Pending(self.pending),
            "encoders": {"m": SimpleNamespace(provider="CPUExecutionProvider", encoded=4)},
            "stores": [
                Store("Redis", "unix:///r", SimpleNamespace(restarts=1)),
                Store("Milvus", "http://m:19530", None),
            ],
        }
        self.status = Status(library="lib", data_dir="/d", **parts)


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
    assert json.loads(HealthAnswer(status="ok").json_bytes()) == {"schema": 1, "status": "ok"}


def test_an_answer_is_ascii_whatever_is_in_it() -> None:
    class Said(Answer):
        path: str

    assert Said(path="/é\udce9😀\n").json_bytes() == rb'{"schema": 1, "path": "/\u00e9\udce9\ud83d\ude00\n"}'


def test_a_daemon_with_nothing_to_do_is_up_to_date(parts: Parts) -> None:
    answer = parts.status.answer()
    assert (answer.state, answer.reasons) == ("up to date", [])
    assert (answer.photos, answer.files, answer.failures, answer.encoded) == (2, 3, 1, 4)
    assert (answer.lag_seconds, answer.folders[0].files, answer.models[0].photos) == (0.123, 3, 2)
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


@pytest.mark.parametrize("state", ["missing", "unreadable", "held"])
def test_a_folder_that_is_not_well_is_a_reason(parts: Parts, state: str) -> None:
    parts.folder.state, parts.folder.note = state, "why"
    answer = parts.status.answer()
    assert (answer.state, answer.reasons) == ("degraded", ["/p: why"])
    assert parts.status.health().status == "degraded"


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
