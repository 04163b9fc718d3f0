"""What the daemon says of its photos, by every way in that its HTTP interface has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.drills.disk_model import Answers
from tests.drills.installation import DrillError, Installation, ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SYNC_SECONDS = 20.0


def sync(installation: Installation) -> Mapping[str, Any]:
    """Have everything compared with the disk, and return the answer; DrillError when that does not come to its end."""
    answer = installation.asked("POST", f"/v1/sync?timeout={SYNC_SECONDS:g}", {})
    if not answer.get("complete"):
        raise DrillError(f"a sync does not come to its end: {answer}")
    return answer


def deletions(installation: Installation, folder: Path) -> list[dict[str, Any]]:
    """Return what is held of a folder; nothing where nothing is."""
    answer = installation.asked("GET", f"/v1/deletions?folder={quote(os.fsencode(folder))}")
    folders: list[dict[str, Any]] = answer.get("folders", [])
    return folders


def listed(installation: Installation, folder: Path) -> frozenset[str]:
    """Return the paths of a folder that are listed as held."""
    return frozenset(path for one in deletions(installation, folder) for path in one["paths"])


def search(installation: Installation, known: Iterable[int]) -> tuple[dict[str, int], frozenset[str]]:
    """Ask for the whole library with any of the photos that may be in it. Return path -> photo, and the paths that are marked."""
    found: dict[str, int] = {}
    unverified: set[str] = set()
    for photo in known:
        results = installation.asked("POST", "/v1/search?limit=1000", {"id": str(photo)}).get("results", [])
        for result in results:
            found |= dict.fromkeys(result["paths"], int(result["id"]))
            unverified |= set(result["unverified"])
        if results:
            break
    return found, frozenset(unverified)


def decide(installation: Installation, what: str, folder: Path) -> int:
    """Approve or reject what is held of a folder, and return of how many files the answer says that it is about."""
    answer = installation.asked("POST", f"/v1/deletions/{what}", {"folder": str(folder)})
    if "error" in answer:
        raise DrillError(f"{what}: {answer['error']['message']}")
    return int(answer["files"])


def measured(installation: Installation, name: str) -> int:
    """Return the value of one of the metrics."""
    lines = ask(installation.socket, "GET", "/metrics")[1].decode().splitlines()
    return int(float(next(line.split()[-1] for line in lines if line.startswith(f"{name} "))))


def encoded(installation: Installation) -> int:
    """Return how many photos were encoded since the daemon started, as both status and metrics count them."""
    count = int(installation.asked("GET", "/v1/status")["encoded"])
    assert measured(installation, "lookalike_encoded_photos_total") == count
    return count


def answers(installation: Installation, folder: Path, known: Iterable[int]) -> Answers:
    """Ask in every way that there is; `folder` is the only one that is watched."""
    verified = installation.asked("POST", "/v1/verify", {})["differences"]
    synced = sync(installation)
    status = installation.asked("GET", "/v1/status")
    of_the_folder = deletions(installation, folder)
    found, unverified = search(installation, known)
    return Answers(
        found=found,
        unverified=unverified,
        listed=listed(installation, folder),
        counts={
            "deletions list": sum(one["files"] for one in installation.asked("GET", "/v1/deletions")["folders"]),
            "deletions list of the folder": sum(one["files"] for one in of_the_folder),
            "sync": sum(one["files"] for one in synced["held"]),
            "status": status["held_deletions"],
            "status of the folder": sum(one["held_deletions"] for one in status["folders"]),
            "metrics": measured(installation, "lookalike_held_deletions"),
            "verify": sum(one["count"] for one in verified if one["kind"] == "held"),
        },
        photos=status["photos"],
        files=status["files"],
        folder_state=status["folders"][0]["state"],
        state=status["state"],
        differences=tuple(
            f"{one['count']} {one['kind']}: {', '.join(one['examples'])}" for one in verified if one["kind"] != "held"
        ),
    )
