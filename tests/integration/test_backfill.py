"""What lacks a vector is fed to `pending`: a few paths at a time, in passes that end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from daemon import backfill as module
from daemon.backfill import Backfill
from daemon.changes import Hint
from daemon.index.index import Index
from daemon.watch.pending import Pending
from daemon.watch.settle import Settle

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scene:
    """Photos that the first of two models knows, and the backfill of the second."""

    def __init__(self, index: Index, photos: Any) -> None:
        self.index = index
        self.photos = photos
        self.first, self.second = index.collections
        self.pending = Pending(Settle(0.0, 0.0))
        self.unwatched: set[str] = set()
        self.away: set[str] = set()
        self.backfill = Backfill(
            index, self.pending, lambda path: path not in self.unwatched, lambda path: path in self.away
        )

    def known(self, *names: str) -> None:
        alone = Index(self.index.mappings, self.index.vectors, [self.first])
        alone.commit([self.photos.add(f"/p/{name}", name, models=1) for name in names])

    def taken(self) -> list[str]:
        """Return what is pending, taken for a look."""
        return [path for path, _, _ in self.pending.take(1000)] if len(self.pending) else []

    def fill(self, *paths: str) -> None:
        """Encode what was taken, and be done with it."""
        for path in paths:
            name = path.removeprefix("/p/")
            self.index.commit([self.photos.add(path, name)])
            self.pending.done(path)

    def passes(self, count: int = 5) -> list[str]:
        """Feed some times, dealing with nothing but what is fed; return all that was."""
        fed = []
        for _ in range(count):
            self.backfill.feed()
            for path in self.taken():
                fed.append(path)
                self.pending.done(path)
        return fed


@pytest.fixture
def scene(index: Index, photos: Any) -> Iterator[Scene]:
    scene = Scene(Index(index.mappings, index.vectors, index.current), photos)
    yield scene
    scene.pending.close()


def test_what_lacks_a_vector_is_fed_and_the_pass_ends_when_it_has_one(scene: Scene) -> None:
    scene.known("a", "b")
    assert not scene.backfill.active
    scene.backfill.begin()
    assert scene.backfill.fills(scene.second.name)
    assert not scene.backfill.fills(scene.first.name)
    scene.backfill.feed()
    fed = scene.taken()
    assert sorted(fed) == ["/p/a", "/p/b"]
    scene.backfill.feed()
    assert scene.backfill.active
    scene.fill(*fed)
    scene.backfill.feed()
    assert not scene.backfill.active
    assert not scene.backfill.lacks(scene.second.name)


def test_a_few_are_fed_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION", 3)
    names = [f"{n}" for n in range(10)]
    scene.known(*names)
    scene.backfill.begin()
    fed: list[str] = []
    while scene.backfill.active:
        scene.backfill.feed()
        assert len(scene.pending) <= 3
        taken = scene.taken()
        fed += taken
        scene.fill(*taken[:1])
        for path in taken[1:]:
            scene.fill(path)
    assert sorted(fed) == sorted(f"/p/{name}" for name in names)


def test_a_photo_of_no_watched_folder_or_of_a_disk_that_is_away_is_left_alone(scene: Scene) -> None:
    scene.known("a", "b", "c")
    scene.unwatched.add("/p/a")
    scene.away.add("/p/b")
    scene.backfill.begin()
    assert scene.passes() == ["/p/c"]
    assert not scene.backfill.active


def test_a_pass_that_gets_nowhere_is_the_last_until_it_is_time_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.known("a")
    scene.backfill.begin()
    assert scene.passes() == ["/p/a"]
    assert not scene.backfill.active
    assert scene.backfill.lacks(scene.second.name)
    assert scene.passes() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + module.RETRY_SECONDS + 1)
    scene.backfill.feed()
    assert scene.backfill.active


def test_one_that_is_woken_in_the_middle_of_a_pass_makes_another(scene: Scene) -> None:
    scene.known("a")
    scene.backfill.begin()
    scene.backfill.feed()
    (path,) = scene.taken()
    scene.backfill.wake()
    scene.pending.done(path)
    assert scene.passes() == ["/p/a"]
    assert not scene.backfill.active


def test_nothing_is_asked_again_where_nothing_is_lacking(scene: Scene, kit: Any) -> None:
    calls: list[str] = []
    watched = Index(kit.recorded(scene.index.mappings, calls.append), scene.index.vectors, scene.index.current)
    backfill = Backfill(watched, scene.pending, lambda _: True, lambda _: False)
    backfill.begin()
    assert not backfill.active
    calls.clear()
    for _ in range(10):
        backfill.feed()
    assert calls == []


def test_it_is_active_while_it_asks_what_is_lacking(scene: Scene, kit: Any) -> None:
    seen: list[bool] = []
    watched = Index(
        kit.recorded(scene.index.mappings, lambda _: seen.append(backfill.active)),
        scene.index.vectors,
        scene.index.current,
    )
    backfill: Backfill = Backfill(watched, scene.pending, lambda _: True, lambda _: False)
    scene.known("a")
    backfill.wake()
    backfill.feed()
    assert seen
    assert all(seen)


def test_it_is_active_until_a_changed_model_answers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody is told that all is up to date while the earlier version of a model is still being dropped."""
    seen: list[bool] = []

    def replace_complete(*_: Any) -> list[Any]:
        seen.append(scene.backfill.active)
        return []

    monkeypatch.setattr(scene.index, "replace_complete", replace_complete)
    scene.backfill.begin()
    assert (seen, scene.backfill.active) == ([True], False)


def test_a_file_that_changes_without_end_keeps_no_pass_from_ending(scene: Scene) -> None:
    scene.known("a")
    scene.pending.put("/p/camera.jpg", Hint.WRITTEN)
    scene.backfill.begin()
    scene.backfill.feed()
    fed = [path for path in scene.taken() if path != "/p/camera.jpg"]
    scene.fill(*fed)
    scene.pending.put("/p/camera.jpg", Hint.WRITTEN)
    scene.backfill.feed()
    assert not scene.backfill.active
    assert len(scene.pending) == 1


def test_a_photo_that_a_model_gives_no_vector_for_is_not_asked_of_it_again(scene: Scene) -> None:
    scene.known("a")
    scene.backfill.give_up(scene.second.version, scene.photos.id("a"))
    assert scene.backfill.has_given_up(scene.second.version, scene.photos.id("a"))
    scene.backfill.begin()
    assert not scene.backfill.active
    assert not scene.backfill.lacks(scene.second.name)


def test_a_model_lacks_no_photo_that_is_not_watched(scene: Scene) -> None:
    scene.known("a", "b")
    scene.unwatched.update(("/p/a", "/p/b"))
    scene.backfill.begin()
    assert not scene.backfill.lacks(scene.second.name)
    assert scene.passes() == []
    assert not scene.backfill.active
