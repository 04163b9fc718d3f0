from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Clinic

WELL: dict[str, Any] = {
    "data_dir": "/nowhere",
    "state": "up to date",
    "reasons": [],
    "folders": [{"path": "/photos", "note": "", "unwatched": 0}],
    "photos": 3,
    "files": 4,
    "pending": 0,
    "oldest_pending_seconds": 0.0,
    "failures": 0,
    "held_deletions": 0,
    "overflows": 0,
    "retired_models": [],
    "stores": [{"name": "Redis", "embedded": True, "state": "ok", "reason": ""}],
}


def test_a_daemon_that_is_well_says_so(clinic: Clinic) -> None:
    clinic.status = WELL

    (found,) = clinic.look("state", folders=())

    assert (found.level, found.sentence) == ("ok", "up to date, 3 photos in 4 files")


@pytest.mark.parametrize(
    ("told", "level", "mend"),
    [
        (
            {"state": "degraded", "reasons": ["/photos: 7 of 9 photos are missing from it"]},
            "problem",
            "lookalike deletions list /photos",
        ),
        ({"failures": 2}, "warning", "lookalike failures list"),
        ({"held_deletions": 2}, "note", "lookalike deletions list"),
        ({"retired_models": [{"name": "vgg16", "photos": 5}]}, "note", "lookalike models remove vgg16"),
        ({"folders": [{"path": "/photos", "note": "", "unwatched": 9}]}, "warning", "lookalike status"),
        ({"overflows": 3}, "note", "sudo sysctl -w fs.inotify.max_queued_events=65536"),
        ({"pending": 5, "oldest_pending_seconds": 3600.0}, "warning", "lookalike status"),
    ],
)
def test_what_waits_for_somebody_is_told_with_the_command(
    clinic: Clinic, told: dict[str, Any], level: str, mend: str
) -> None:
    clinic.status = WELL | told

    (found,) = clinic.look("state", folders=())

    assert (found.level, found.mend[0]) == (level, mend)


def test_a_store_that_is_away_is_told_of_by_its_own_check_alone(clinic: Clinic) -> None:
    reason = "Redis at unix:///x cannot be reached"
    store = {"name": "Redis", "embedded": True, "state": "away", "reason": reason}
    clinic.status = WELL | {"state": "degraded", "reasons": [reason], "stores": [store]}

    assert [finding.level for finding in clinic.look("state", folders=())] == ["note"]
    assert f"the daemon has no Redis now: {reason}" in [one.sentence for one in clinic.look("stores", folders=())]


def test_a_folder_that_is_polled_says_why(clinic: Clinic) -> None:
    folder = {"path": "/photos", "note": "nfs raises no events", "unwatched": 0}
    clinic.status = WELL | {"folders": [folder]}

    (found,) = clinic.look("state", folders=())

    assert (found.level, found.sentence) == ("note", "/photos: nfs raises no events")
