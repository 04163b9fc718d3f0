"""Versions of a model side by side: what answers, what is dropped, and what a restart finds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.index.index import Collection, Encoded, Index

if TYPE_CHECKING:
    from collections.abc import Iterator

DIM = 8


class Models:
    """Models of which every version can encode again but those in `lost`."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.revived: list[str] = []
        self.released: list[str] = []

    def revive(self, version: str) -> bool:
        self.revived.append(version)
        return version not in self.lost

    def release(self, version: str) -> None:
        self.released.append(version)


class Library:
    """One library over the lives of its daemon, whose model changes from life to life."""

    def __init__(self, index: Index, photos: Any) -> None:
        self.first = index
        self.photos: Any = photos
        self.models = Models()

    def collection(self, version: str, model: str = "one") -> Collection:
        keys = self.first.mappings.keys
        return Collection(
            model, f"{model}-{version}", keys.collection(model, version), keys.alias(model), DIM, "cosine"
        )

    def life(self, *collections: Collection) -> Index:
        index = Index(self.first.mappings, self.first.vectors, collections, self.models)
        index.recover()
        return index

    def add(self, index: Index, *names: str) -> None:
        """Add photos by everything that is live."""
        versions = [collection.version for collection in index.collections]
        index.commit([self.encoded(f"/p/{name}", name, versions) for name in names])

    def encoded(self, path: str, content: str, versions: list[str]) -> Encoded:
        encoded: Encoded = self.photos.add(path, content)
        return replace(encoded, vectors=dict.fromkeys(versions, self.photos.vector(content)))

    def fill(self, index: Index, *names: str) -> None:
        """Add what is known already by those versions that lack it."""
        for name in names:
            lacking = index.lacking([self.photos.id(name)])[0]
            index.commit([self.encoded(f"/p/{name}", name, list(lacking))])

    def in_milvus(self) -> set[str]:
        with self.first.vectors._milvus() as client:
            found = client.list_collections(timeout=10)
        return {name for name in found if name.startswith(f"{self.first.mappings.keys.library}_")}


@pytest.fixture
def library(stores: Any, photos: Any, kit: Any) -> Iterator[Library]:
    index = stores.library(models=())
    index.mappings.establish()
    library = Library(index, photos)
    yield library
    for name in library.in_milvus():
        index.vectors.drop(name)
    kit.drop(index)


def always(_: str) -> bool:
    return True


def test_a_model_that_has_not_changed_has_one_collection_and_its_alias(library: Library) -> None:
    one = library.collection("1f")
    index = library.life(one)
    assert (index.collections, index.current, index.models) == ((one,), (one,), ("one",))
    assert index.answering("one") == one
    assert index.vectors.target(one.alias) == one.name
    assert library.models.revived == []


def test_a_changed_model_is_built_behind_its_earlier_version_which_answers(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    assert index.answering("one") == old
    assert index.current == (new,)
    assert index.collections == (new, old)
    assert index.vectors.target(new.alias) == old.name
    assert index.missing() == {new.name: sorted([library.photos.id("a"), library.photos.id("b")])}
    assert library.models.revived == [old.version]


def test_what_arrives_meanwhile_is_found_by_both_versions(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a")
    index = library.life(new)
    library.add(index, "b")
    for collection in (old, new):
        assert library.photos.id("b") in index.vectors.ids(collection.name)


def test_the_new_version_answers_once_it_has_all_and_the_old_one_goes(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    assert index.replace_complete(always) == []
    library.fill(index, "a")
    assert index.replace_complete(always) == []
    assert index.answering("one") == old
    library.fill(index, "b")
    assert index.replace_complete(always) == [old]
    assert index.answering("one") == new
    assert index.collections == (new,)
    assert index.vectors.target(new.alias) == new.name
    assert library.in_milvus() == {new.name}
    assert index.mappings.collections() == {new.name: new}
    assert index.mappings.all_encoded(old.name) == set()
    assert library.models.released == [old.version]


def test_a_restart_goes_on_where_the_building_stood(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    library.fill(library.life(new), "a")
    index = library.life(new)
    assert index.answering("one") == old
    assert index.missing() == {new.name: [library.photos.id("b")]}


def test_a_photo_that_cannot_be_read_now_keeps_the_old_version(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    library.fill(index, "a")
    assert index.replace_complete(lambda path: path == "/p/b") == []
    assert index.replace_complete(lambda path: path != "/p/b") == [old]


def test_a_change_that_is_taken_back_costs_nothing(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a")
    library.life(new)
    index = library.life(old)
    assert index.answering("one") == old
    assert index.missing() == {}
    assert library.in_milvus() == {old.name}


def test_an_emptied_mapping_costs_the_version_that_answers_nothing(library: Library, kit: Any) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    kit.empty(index)
    index.recover()
    assert index.answering("one") == old
    assert index.mappings.collections() == {old.name: old, new.name: new}
    # What files are hashed to is found by its vector again, and the rest is owed as before.
    index.commit([library.encoded(f"/p/{name}", name, [new.version]) for name in ("a", "b")])
    assert index.replace_complete(always) == [old]
    assert library.in_milvus() == {new.name}


def test_an_earlier_version_that_neither_the_mapping_nor_the_cache_knows_any_more_goes(
    library: Library, kit: Any
) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a")
    index = library.life(new)
    kit.empty(index)
    library.models.lost.add(old.version)
    index.recover()
    assert index.answering("one") == new
    assert library.in_milvus() == {new.name}


def test_lost_aliases_cost_the_version_that_answers_nothing(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    library.fill(index, "a")
    index.vectors.unpoint(old.alias)
    again = library.life(new)
    assert again.answering("one") == old
    assert again.vectors.target(old.alias) == old.name


def test_a_photo_that_the_new_version_cannot_encode_does_not_keep_the_old_one(library: Library) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a", "b")
    index = library.life(new)
    library.fill(index, "a")
    unable = {new.version: {library.photos.id("b")}}
    assert index.missing(unable) == {}
    assert index.replace_complete(always, unable) == [old]


def test_a_photo_that_one_model_cannot_encode_is_in_the_index_of_the_others(library: Library) -> None:
    one, two = library.collection("1f"), library.collection("1f", "two")
    index = library.life(one, two)
    partial = replace(library.encoded("/p/a", "a", [one.version]), unable=frozenset({two.version}))
    assert index.commit([partial]) == [True]
    assert index.vectors.ids(one.name) == {library.photos.id("a")}
    assert index.missing() == {two.name: [library.photos.id("a")]}
    assert index.mappings.intents() == set()
    assert library.life(one, two).missing() == {two.name: [library.photos.id("a")]}


def test_of_three_versions_the_one_in_between_goes(library: Library) -> None:
    first, second, third = (library.collection(version) for version in ("1f", "2f", "3f"))
    library.add(library.life(first), "a")
    library.life(second)
    index = library.life(third)
    assert index.answering("one") == first
    assert library.in_milvus() == {first.name, third.name}


def test_where_the_earlier_version_cannot_encode_any_more_the_new_one_answers_as_far_as_it_has_come(
    library: Library,
) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a")
    library.models.lost.add(old.version)
    index = library.life(new)
    assert index.answering("one") == new
    assert index.collections == (new,)
    assert library.in_milvus() == {new.name}


def test_a_model_that_is_taken_out_keeps_its_vectors_until_they_are_freed(library: Library) -> None:
    one, two = library.collection("1f"), library.collection("1f", "two")
    library.add(library.life(one, two), "a")
    index = library.life(one)
    assert index.retired() == [two]
    assert library.in_milvus() == {one.name, two.name}
    assert index.free("two") == [two]
    assert index.retired() == []
    assert library.in_milvus() == {one.name}
    assert index.vectors.target(two.alias) is None
    assert index.free("two") == []
    assert library.life(one).missing() == {}


def test_a_live_model_is_not_freed(library: Library) -> None:
    one = library.collection("1f")
    index = library.life(one)
    assert index.free("one") == []
    assert library.in_milvus() == {one.name}


def test_a_model_that_comes_back_has_what_it_had(library: Library) -> None:
    one, two = library.collection("1f"), library.collection("1f", "two")
    library.add(library.life(one, two), "a")
    library.add(library.life(one), "b")
    index = library.life(one, two)
    assert index.missing() == {two.name: [library.photos.id("b")]}


def test_what_was_removed_while_a_model_was_away_is_collected_when_it_is_back(library: Library) -> None:
    from daemon.index.mappings import Remove

    one, two = library.collection("1f"), library.collection("1f", "two")
    library.add(library.life(one, two), "a", "b")
    library.life(one).commit([Remove("/p/a")])
    index = library.life(one, two)
    index.collect()
    assert index.vectors.ids(two.name) == {library.photos.id("b")}


@pytest.mark.parametrize("step", ["point", "drop"])
def test_a_crash_while_the_old_version_goes_is_finished_by_the_next_start(
    library: Library, kit: Any, step: str
) -> None:
    old, new = library.collection("1f"), library.collection("2f")
    library.add(library.life(old), "a")
    index = library.life(new)
    library.fill(index, "a")

    armed: list[str] = []

    def cut(name: str) -> None:
        if name in armed:
            raise KeyboardInterrupt

    broken = Index(index.mappings, kit.recorded(index.vectors, after=cut), [new], library.models)
    broken.recover()
    armed.append(step)
    with pytest.raises(KeyboardInterrupt):
        broken.replace_complete(always)
    again = library.life(new)
    again.replace_complete(always)
    assert again.answering("one") == new
    assert library.in_milvus() == {new.name}
    assert again.mappings.collections() == {new.name: new}
    assert again.vectors.ids(new.name) == {library.photos.id("a")}
