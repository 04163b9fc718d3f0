from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from cli.report.status import status_lines

if TYPE_CHECKING:
    from cli.answers import StatusAnswer

NOW = datetime(2026, 1, 1, 0, 5, tzinfo=UTC).timestamp()


def lines(status: dict[str, Any], *, colour: bool = False) -> list[str]:
    return status_lines(cast("StatusAnswer", status), now=NOW, colour=colour)


def test_a_healthy_status_reads_like_this(status_answer: dict[str, Any]) -> None:
    assert "\n".join(lines(status_answer)) == (
        "up to date\n"
        "\n"
        "folders    /home/anna/Pictures  watched by events   640 files\n"
        "photos     630 in 640 files\n"
        "pending    nothing\n"
        "lag        0.21 s from a change to being found\n"
        "compared   5 min ago: 640 files in 0.2 s, no difference\n"
        "models     efficientnet-lite0: 630 photos, 1280 dimensions, cosine, on CPU\n"
        "stores     Redis: ok, embedded\n"
        "           Milvus: ok, embedded\n"
        "data       /home/anna/.local/share/lookalike\n"
        "daemon     lookaliked 0.1.0, library default, up 12 s, 630 photos encoded since"
    )


def test_a_troubled_status_says_what_is_wrong(status_answer: dict[str, Any]) -> None:
    status_answer |= {
        "state": "degraded",
        "reasons": ["Milvus is away."],
        "failures": 2,
        "held_deletions": 12,
        "lag_seconds": None,
        "last_reconcile": None,
    }
    status_answer["folders"].append(
        {"path": "/mnt/nas", "watch": "poll", "state": "missing", "files": 1, "note": "It is not mounted."}
    )
    status_answer["stores"][1] |= {"state": "away", "embedded": False, "reason": "connection refused"}
    status_answer["models"][0]["photos"] = 100

    shown = lines(status_answer)

    assert shown[:3] == ["degraded", "  Milvus is away.", ""]
    assert "           /mnt/nas             missing               1 file" in shown
    assert "             It is not mounted." in shown
    assert "failures   2 files could not be indexed" in shown
    assert "held       12 deletions not carried out" in shown
    assert "models     efficientnet-lite0: 100 of 630 photos, 1280 dimensions, cosine, on CPU" in shown
    assert "           Milvus: away, unix:/run/milvus.sock (connection refused)" in shown
    assert not any(line.startswith(("lag", "compared")) for line in shown)


def test_indexing_says_how_much_is_left(status_answer: dict[str, Any]) -> None:
    status_answer |= {"state": "indexing", "pending": 1234, "oldest_pending_seconds": 75.0}

    shown = lines(status_answer)

    assert shown[0] == "indexing, 1,234 to go"
    assert "pending    1,234 files, the oldest for 1 min" in shown


def test_a_comparison_says_what_it_found(status_answer: dict[str, Any]) -> None:
    status_answer["last_reconcile"] |= {"added": 1200, "removed": 1}

    assert "compared   5 min ago: 640 files in 0.2 s, 1,200 added, 1 removed" in lines(status_answer)


def test_a_walk_says_how_far_it_is(status_answer: dict[str, Any]) -> None:
    status_answer["reconcile"] = {"directory": "/home/anna/Pictures", "files": 12_000, "of": 50_000}

    assert "comparing  /home/anna/Pictures: 12,000 of about 50,000 files" in lines(status_answer)


@pytest.mark.parametrize("expected", [0, 640])
def test_a_walk_that_is_longer_than_expected_says_how_many_files_it_saw(
    status_answer: dict[str, Any], expected: int
) -> None:
    status_answer["reconcile"] = {"directory": "/home/anna/Pictures", "files": 12_000, "of": expected}

    assert "comparing  /home/anna/Pictures: 12,000 files" in lines(status_answer)


def test_without_a_walk_none_is_shown(status_answer: dict[str, Any]) -> None:
    status_answer["reconcile"] = None

    assert not any(line.startswith("comparing") for line in lines(status_answer))


def test_directories_without_a_watch_are_said_aloud(status_answer: dict[str, Any]) -> None:
    status_answer["folders"][0] |= {"watches": 120, "unwatched": 3}
    status_answer["folders"].append(status_answer["folders"][0] | {"unwatched": 1})

    shown = lines(status_answer)

    assert "             3 directories polled for want of a watch" in shown
    assert "             1 directory polled for want of a watch" in shown


def test_no_folder_is_said_aloud(status_answer: dict[str, Any]) -> None:
    status_answer["folders"] = []

    assert "folders    none is watched" in lines(status_answer)


def test_colour_changes_nothing_but_the_colour(status_answer: dict[str, Any]) -> None:
    coloured = "\n".join(lines(status_answer, colour=True))

    assert coloured.startswith("\x1b[32mup to date\x1b[0m\n")
    for code in ("\x1b[32m", "\x1b[2m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == "\n".join(lines(status_answer))


def test_nothing_of_the_daemons_text_reaches_the_terminal_raw(status_answer: dict[str, Any]) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return value if value in {"events", "poll", "ok", "away", "degraded"} else value + "\x1b]0;x\x07\n"
        if isinstance(value, list):
            return [poison(item) for item in value]
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        return value

    status_answer |= {"state": "degraded", "reasons": ["It is so."]}
    status_answer["folders"][0]["note"] = "A note."
    status_answer["reconcile"] = {"directory": "/home/anna/Pictures", "files": 1, "of": 2}
    status_answer["stores"][0] |= {"state": "away", "embedded": False, "reason": "gone"}

    assert all(line.isprintable() for line in lines(poison(status_answer)))
