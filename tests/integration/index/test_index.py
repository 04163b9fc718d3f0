"""The contract of the index over real servers: whatever happens, both stores are in step again."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.errors import FAILURE_KINDS, StoreRefused, StoreUnavailable
from daemon.index.index import Encoded, Index
from daemon.index.mappings import PAGE, Add, Bind, Exclude, Fail, Remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.index.index import Change

ODD_NAMES = ["/p/new\nline.jpg", "/p/caf\udce9.jpg", "/p/😀.jpg", "/p/*?[x].jpg", "/p/a b\t.jpg", "/p/" + "x" * 255]


def fail(path: str, state: str = "1 2 3 4") -> Fail:
    return Fail(path, "it is no image", state)


def milvus_calls(index: Index, kit: Any) -> tuple[Index, list[str]]:
    """Return the index with its Milvus behind a recorder, and the calls it will make."""
    calls: list[str] = []
    return Index(index.mappings, kit.recorded(index.vectors, calls.append), index.collections), calls


def test_what_is_added_is_in_both_stores(index: Index, photos: Any, kit: Any) -> None:
    assert index.commit([photos.add("/p/a.jpg", "a"), photos.add("/p/b.jpg", "b")]) == [True, True]
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a", "/p/b.jpg": "b"}))
    assert index.mappings.photo(photos.id("a")) == photos.info("a")


@pytest.mark.parametrize("path", ODD_NAMES)
def test_any_name_that_a_file_can_have_is_kept_and_given_back(index: Index, photos: Any, kit: Any, path: str) -> None:
    index.commit([photos.add(path, "a")])
    kit.assert_in_step(index, photos.expected({path: "a"}))
    assert index.mappings.photos([photos.id("a")])[0][1] == [path]
    index.commit([fail(path)])
    kit.assert_in_step(index, {}, failed=[path])
    assert index.mappings.failure(path) == index.mappings.failures()[path]
    index.commit([Remove(path)])
    kit.assert_in_step(index, {})


def test_a_copy_shares_the_vector(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index, calls = milvus_calls(index, kit)
    assert index.commit([photos.bind("/q/a.jpg", "a")]) == [True]
    assert calls == []
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a", "/q/a.jpg": "a"}))
    assert index.mappings.photos([photos.id("a")])[0][1] == ["/p/a.jpg", "/q/a.jpg"]


def test_two_copies_may_arrive_in_one_batch(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.add("/p/b.jpg", "a"), photos.bind("/p/c.jpg", "a")])
    kit.assert_in_step(index, photos.expected(dict.fromkeys(["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"], "a")))


def test_a_move_takes_the_old_path_along_and_leaves_milvus_alone(index: Index, photos: Any, kit: Any) -> None:
    stat = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", stat)])
    index, calls = milvus_calls(index, kit)
    index.commit([photos.bind("/q/b.jpg", "a", stat, moved_from="/p/a.jpg")])
    assert calls == []
    kit.assert_in_step(index, photos.expected({"/q/b.jpg": "a"}))


@pytest.mark.parametrize("held", ["a", "b"], ids=["the same content", "another content"])
def test_a_move_leaves_its_old_path_alone_when_another_file_is_there_by_now(
    index: Index, photos: Any, kit: Any, held: str
) -> None:
    stat = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", stat)])
    index.commit([photos.add("/p/a.jpg", held), photos.add("/p/z.jpg", "a")])
    index.commit([photos.bind("/q/a.jpg", "a", stat, moved_from="/p/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": held, "/p/z.jpg": "a", "/q/a.jpg": "a"}))


@pytest.mark.parametrize("moves_first", [True, False])
@pytest.mark.parametrize("told", [True, False], ids=["as a move", "as a copy"])
def test_moving_the_last_path_and_removing_the_old_one_keeps_the_vector(
    index: Index, photos: Any, kit: Any, *, moves_first: bool, told: bool
) -> None:
    stat = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", stat)])
    index, calls = milvus_calls(index, kit)
    changes = [photos.bind("/q/a.jpg", "a", stat, moved_from="/p/a.jpg" if told else ""), Remove("/p/a.jpg")]
    assert index.commit(changes if moves_first else changes[::-1]) == [True, True]
    assert calls == []
    kit.assert_in_step(index, photos.expected({"/q/a.jpg": "a"}))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_files_that_pass_their_names_on_in_a_circle_keep_their_vectors(
    index: Index, photos: Any, kit: Any, order: tuple[int, ...]
) -> None:
    stats = [photos.stat() for _ in range(3)]
    index.commit([photos.add(f"/p/{n}", str(n), stats[n]) for n in range(3)])
    index, calls = milvus_calls(index, kit)
    changes = [photos.bind(f"/p/{(n + 1) % 3}", str(n), stats[n], moved_from=f"/p/{n}") for n in order]
    assert index.commit(changes) == [True] * 3
    assert calls == []
    kit.assert_in_step(index, photos.expected({"/p/1": "0", "/p/2": "1", "/p/0": "2"}))


def test_removing_one_of_two_paths_keeps_the_photo(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.bind("/q/a.jpg", "a")])
    index.commit([Remove("/p/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/q/a.jpg": "a"}))


def test_removing_the_last_path_deletes_the_vector(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.bind("/q/a.jpg", "a")])
    index.commit([Remove("/p/a.jpg"), Remove("/q/a.jpg"), Remove("/p/never.jpg")])
    kit.assert_in_step(index, {})


def test_overwriting_the_last_path_deletes_the_old_vector(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.commit([photos.add("/p/a.jpg", "b")])
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "b"}))


def test_the_same_content_with_another_inode_leaves_no_trace_of_the_old_one(
    index: Index, photos: Any, kit: Any
) -> None:
    first = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", first)])
    index.commit([photos.bind("/p/a.jpg", "a")])
    assert index.mappings.paths_by_inode([first]) == [None]
    index.commit([photos.add("/p/a.jpg", "a")])
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a"}))


def test_hard_links_share_an_inode_and_part_one_by_one(index: Index, photos: Any, kit: Any) -> None:
    stat = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", stat), photos.bind("/p/b.jpg", "a", stat)])
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a", "/p/b.jpg": "a"}))
    index.commit([Remove("/p/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "a"}))
    index.commit([Remove("/p/b.jpg")])
    kit.assert_in_step(index, {})


def test_a_failure_unbinds_its_path_and_is_gone_once_it_is_fixed(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.commit([fail("/p/a.jpg", "state")])
    kit.assert_in_step(index, {}, failed=["/p/a.jpg"])
    assert index.mappings.failure_signatures() == {"/p/a.jpg": "state"}
    assert index.mappings.counts().failures == 1
    index.commit([photos.add("/p/a.jpg", "b")])
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "b"}))


def test_failures_are_counted_by_kind_also_those_that_have_none(index: Index) -> None:
    failed: list[Any] = [Fail(f"/p/{n}.jpg", "why", "s", kind="damaged") for n in range(3)]
    index.commit([*failed, Fail("/p/a.jpg", "why", "s", kind="unreadable")])
    before = {"reason": "why", "attempts": 1, "since": 1.0, "signature": "s"}
    for path, record in ((b"/p/earlier.jpg", before), (b"/p/later.jpg", before | {"kind": "what is not known yet"})):
        index.mappings._redis.hset(index.mappings.keys.failures, path, json.dumps(record))
    counts = index.mappings.failure_kinds()
    assert {kind: number for kind, number in counts.items() if number} == {"damaged": 3, "unreadable": 1, "other": 2}
    assert set(counts) == set(FAILURE_KINDS)
    assert index.mappings.failures()["/p/earlier.jpg"].kind == "other"


def test_a_failure_keeps_since_when_it_fails(index: Index) -> None:
    index.commit([Fail("/p/a.jpg", "no image \udcff", "s", attempts=1, since=5.5)])
    index.commit([Fail("/p/a.jpg", "no image \udcff", "s", attempts=2, since=5.5)])
    failure = index.mappings.failure("/p/a.jpg")
    assert failure is not None
    assert (failure.attempts, failure.since, failure.reason) == (2, 5.5, "no image \udcff")


def test_binding_a_photo_that_is_not_known_is_refused(index: Index, photos: Any, kit: Any) -> None:
    assert index.commit([photos.bind("/p/a.jpg", "a")]) == [False]
    kit.assert_in_step(index, {})


def test_binding_a_photo_on_its_way_out_is_refused(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.mappings.apply([Remove("/p/a.jpg")], [])
    assert index.commit([photos.bind("/p/b.jpg", "a")]) == [False]
    index.recover()
    kit.assert_in_step(index, {})


def test_what_found_its_vectors_is_refused_when_they_have_been_collected_since(
    index: Index, photos: Any, kit: Any
) -> None:
    assert index.commit([photos.adopt("/p/a.jpg", "a"), photos.add("/p/b.jpg", "b")]) == [False, True]
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}))


def test_what_brings_one_vector_is_refused_when_the_other_has_gone_since(index: Index, photos: Any, kit: Any) -> None:
    assert index.commit([photos.add("/p/a.jpg", "a", models=1)]) == [False]
    assert index.vectors.count(index.collections[0].name) == 0
    kit.assert_in_step(index, {})


def test_a_vector_is_written_into_the_collection_that_lacks_it_alone(index: Index, photos: Any, kit: Any) -> None:
    wanted = {"/p/a.jpg": "a", "/p/b.jpg": "b"}
    index.commit([photos.add(path, content) for path, content in wanted.items()])
    index.vectors.delete(index.collections[1].name, [photos.id("b")])
    index.recover()
    assert index.lacking([photos.id("a"), photos.id("b")]) == [frozenset(), {"two"}]
    index, calls = milvus_calls(index, kit)
    whole = photos.add("/p/b.jpg", "b")
    assert index.commit([Encoded(whole.add, {"two": whole.vectors["two"]})]) == [True]
    assert calls == ["upsert"]
    kit.assert_in_step(index, photos.expected(wanted))


def test_an_emptied_mapping_finds_its_vectors_again(index: Index, photos: Any, kit: Any) -> None:
    wanted = {f"/p/{n}.jpg": f"photo {n % 20}" for n in range(30)}
    index.commit([photos.add(path, content) for path, content in wanted.items()])
    kit.empty(index)
    assert not index.in_order()
    # A change may slip in before anybody has noticed.
    index.commit([photos.add("/p/new.jpg", "new")])
    index.recover()
    assert index.in_order()
    index, calls = milvus_calls(index, kit)
    del wanted["/p/29.jpg"], wanted["/p/9.jpg"]
    assert all(index.commit([photos.adopt(path, content) for path, content in wanted.items()]))
    assert calls == []
    index.collect()
    kit.assert_in_step(index, photos.expected(wanted | {"/p/new.jpg": "new"}))


def test_lost_vectors_are_noticed_and_owed(index: Index, photos: Any, kit: Any) -> None:
    wanted = {"/p/a.jpg": "a", "/p/b.jpg": "b", "/p/c.jpg": "b"}
    index.commit([photos.add(path, content) for path, content in wanted.items()])
    index.vectors.delete(index.collections[1].name, [photos.id("b")])
    index.recover()
    assert kit.backlog_of(index) == ["/p/b.jpg", "/p/c.jpg"]
    assert index.encoded([photos.id("a"), photos.id("b")]) == [True, False]
    kit.converge(index, photos, wanted)
    kit.assert_in_step(index, photos.expected(wanted))


def test_vectors_without_a_photo_are_collected(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.add("/p/b.jpg", "b")])
    index.mappings.apply([Remove("/p/b.jpg")], [])
    index.mappings.forget([photos.id("b")], [collection.name for collection in index.collections])
    index.recover()
    index.collect()
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a"}))


def test_a_model_that_joins_later_owes_every_photo(index: Index, photos: Any, kit: Any) -> None:
    one = Index(index.mappings, index.vectors, index.collections[:1])
    one.commit([photos.add(f"/p/{n}", str(n), models=1) for n in range(5)])
    assert kit.backlog_of(one) == []
    assert sorted(kit.backlog_of(index)) == [f"/p/{n}" for n in range(5)]
    index.commit([photos.add(f"/p/{n}", str(n)) for n in range(5)])
    kit.assert_in_step(index, photos.expected({f"/p/{n}": str(n) for n in range(5)}))


def test_a_recovery_of_an_index_in_order_changes_nothing(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.recover()
    index.collect()
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a"}))


class Cut(Exception):  # noqa: N818 - it stands for a crash
    """The process ended here."""


STORY: tuple[tuple[str, dict[str, str]], ...] = (
    ("added", {"/p/a": "a", "/p/b": "b", "/p/c": "c", "/p/d": "a"}),
    ("everything at once", {"/p/b": "n", "/q/c": "c", "/p/d": "a", "/p/e": "e", "/p/f": "e"}),
)


def story(photos: Any) -> Iterator[list[Change]]:
    moved = photos.stat()
    yield [
        photos.add("/p/a", "a"),
        photos.add("/p/b", "b"),
        photos.add("/p/c", "c", moved),
        photos.add("/p/d", "a"),
    ]
    yield [
        Remove("/p/a"),
        photos.add("/p/b", "n"),
        photos.bind("/q/c", "c", moved, moved_from="/p/c"),
        Remove("/p/c"),
        photos.add("/p/e", "e"),
        photos.add("/p/f", "e"),
        fail("/p/bad"),
    ]


def cut_at(index: Index, kit: Any, call: int, error: Exception, *, when: str) -> Index:
    """Return the index, with the `call`-th call of its stores failing before or after it took effect."""
    count = itertools.count()

    def step(_: str) -> None:
        if next(count) == call:
            raise error

    def wrapped(store: object) -> Any:
        return kit.recorded(store, **{when: step})

    return Index(wrapped(index.mappings), wrapped(index.vectors), index.collections)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("batch", [0, 1])
def test_a_commit_cut_short_at_any_point_is_finished_by_the_next_start(
    stores: Any, photos: Any, kit: Any, batch: int, when: str
) -> None:
    for call in itertools.count():
        index = stores.library()
        index.recover()
        batches = list(story(photos))
        for done in batches[:batch]:
            index.commit(done)
        try:
            cut_at(index, kit, call, Cut(), when=when).commit(batches[batch])
        except Cut:
            kit.converge(index, photos, STORY[batch][1])
            index.commit([fail("/p/bad")] if batch else [])
            kit.assert_in_step(index, photos.expected(STORY[batch][1]), failed=["/p/bad"] if batch else [])
            kit.drop(index)
        else:
            kit.drop(index)
            # Every point has had its turn.
            assert call >= 4
            return


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_met_an_outage_is_made_again_as_it_was(stores: Any, photos: Any, kit: Any, when: str) -> None:
    for call in range(6):
        index = stores.library()
        index.recover()
        first, second = story(photos)
        index.commit(first)
        failing = cut_at(index, kit, call, StoreUnavailable("Milvus", "unix:/x", "is away"), when=when)
        with pytest.raises(StoreUnavailable):
            failing.commit(second)
        failing.commit(second)
        failing.recover()
        kit.converge(index, photos, STORY[1][1])
        kit.assert_in_step(index, photos.expected(STORY[1][1]), failed=["/p/bad"])
        kit.drop(index)


@pytest.mark.parametrize("applied", range(8))
def test_a_crash_in_the_middle_of_the_mapping_leaves_whole_changes(
    index: Index, photos: Any, kit: Any, applied: int
) -> None:
    first, second = story(photos)
    index.commit(first)

    class Halfway:
        def __getattr__(self, name: str) -> Any:
            return getattr(index.mappings, name)

        def apply(self, changes: Sequence[Any], collections: Sequence[str]) -> None:
            index.mappings.apply(changes[:applied], collections)
            raise Cut

    halfway: Any = Halfway()
    with pytest.raises(Cut):
        Index(halfway, index.vectors, index.collections).commit(second)
    kit.converge(index, photos, STORY[1][1])
    index.commit([fail("/p/bad")])
    kit.assert_in_step(index, photos.expected(STORY[1][1]), failed=["/p/bad"])


def test_a_recovery_cut_short_is_finished_by_the_next(stores: Any, photos: Any, kit: Any) -> None:
    for call in itertools.count():
        index = stores.library()
        index.recover()
        index.commit([photos.add("/p/a", "a"), photos.add("/p/b", "b")])
        index.mappings.apply([Remove("/p/a")], [])
        index.mappings.intend([photos.id("b"), photos.id("never")])
        try:
            cut_at(index, kit, call, Cut(), when="after").recover()
        except Cut:
            kit.converge(index, photos, {"/p/b": "b"})
            kit.assert_in_step(index, photos.expected({"/p/b": "b"}))
            kit.drop(index)
        else:
            kit.drop(index)
            assert call > 8
            return


# Reading


def test_pages_are_in_byte_order_and_only_below_their_folder(index: Index, photos: Any) -> None:
    inside = [b"/p/a/" + name for name in (b"\x01", b"a", b"a.jpg", b"a/b", b"z\xc3\xa9", b"\xff")]
    outside = [b"/p/a", b"/p/a.jpg", b"/p/a-b", b"/p/a0", b"/p/aa/x", b"/p/A/x", b"/p/b"]
    decoded = [path.decode(errors="surrogateescape") for path in [*inside, *outside]]
    index.commit([photos.add(path, path.encode(errors="replace").decode()) for path in decoded])
    for folder in ("/p/a", "/p/a/"):
        assert [path for path, _ in index.mappings.stream(folder)] == sorted(inside)
        assert index.mappings.count_below(folder) == len(inside)
    assert [path for path, _ in index.mappings.stream("/")] == sorted(inside + outside)
    assert index.mappings.count_below("/") == len(inside + outside)
    assert list(index.mappings.stream("/nowhere")) == []


def test_a_page_tells_size_mtime_and_inode_as_a_walk_does(index: Index, photos: Any) -> None:
    stat = photos.stat()
    index.commit([photos.add("/p/a.jpg", "a", stat)])
    assert index.mappings.page("/p") == [(b"/p/a.jpg", f"{stat.size} {stat.mtime_ns} {stat.inode}")]


@pytest.mark.parametrize("files", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_streaming_goes_on_past_a_page(index: Index, photos: Any, files: int) -> None:
    paths = [f"/p/{n:05d}.jpg" for n in range(files)]
    index.mappings.apply([photos.add(path, "a").add for path in paths], [])
    streamed = index.mappings.stream("/p")
    assert [path.decode() for path, _ in streamed] == paths


def test_what_changes_between_two_pages_does_not_derail_the_stream(index: Index, photos: Any) -> None:
    paths = [f"/p/{n:05d}.jpg" for n in range(PAGE + 5)]
    index.mappings.apply([photos.add(path, "a").add for path in paths], [])
    stream = index.mappings.stream("/p")
    first = next(stream)
    index.mappings.apply([Remove(paths[0]), Remove(paths[PAGE - 1]), Remove(paths[PAGE])], [])
    assert [path.decode() for path, _ in [first, *stream]] == paths[:PAGE] + paths[PAGE + 1 :]


def test_a_library_is_not_disturbed_by_one_whose_name_begins_alike(stores: Any, photos: Any, kit: Any) -> None:
    short, long = stores.open("alike"), stores.open("alike_2")
    for index in (short, long):
        index.recover()
        index.commit([photos.add("/p/a", "a")])
    short.commit([Remove("/p/a")])
    kit.assert_in_step(short, {})
    kit.assert_in_step(long, photos.expected({"/p/a": "a"}))
    for index in (short, long):
        kit.drop(index)


def test_a_library_of_a_newer_layout_is_refused(index: Index) -> None:
    index.mappings._redis.set(index.mappings.keys.schema, b"2")
    with pytest.raises(StoreRefused, match="layout 2"):
        index.recover()


# Against a model

PATHS = ["/p", "/p/a", "/p/a/b", "/p/a.jpg", "/q/\n", "/q/\udcff"]
CONTENTS = ["one", "two", "three"]
Batch = dict[str, tuple[str, str]]
BATCHES = st.lists(
    st.dictionaries(
        st.sampled_from(PATHS),
        st.tuples(st.sampled_from(["add", "bind", "remove", "fail"]), st.sampled_from(CONTENTS)),
        min_size=1,
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES)
def test_any_batches_leave_what_a_dict_would(stores: Any, kit: Any, batches: list[Batch]) -> None:
    photos = kit.photos()
    index = stores.library()
    index.recover()
    files: dict[str, str] = {}
    failed: set[str] = set()
    for batch in batches:
        changes = [change_of(photos, path, what, content) for path, (what, content) in batch.items()]
        for change, done in zip(changes, index.commit(changes), strict=True):
            if isinstance(change, Bind) and not done:
                continue
            failed.discard(change.path if not hasattr(change, "add") else change.add.path)
            apply_to(files, failed, change, photos)
        kit.assert_in_step(index, files, failed=failed)
    kit.drop(index)


def change_of(photos: Any, path: str, what: str, content: str) -> Any:
    if what == "add":
        return photos.add(path, content)
    if what == "bind":
        return photos.bind(path, content)
    return Remove(path) if what == "remove" else fail(path)


def apply_to(files: dict[str, str], failed: set[str], change: Any, photos: Any) -> None:
    match change:
        case Remove(path=path):
            files.pop(path, None)
        case Fail(path=path):
            files.pop(path, None)
            failed.add(path)
        case Bind(path=path, photo=photo):
            files[path] = next(photos.digest(one) for one in CONTENTS if photos.id(one) == photo)
        case _:
            assert isinstance(change.add, Add)
            files[change.add.path] = change.add.photo.digest


# Photos whose files are excluded


def test_an_excluded_photo_is_forgotten_but_for_its_vectors(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.add("/p/b.jpg", "b")])
    index, calls = milvus_calls(index, kit)
    assert index.commit([Exclude("/p/a.jpg")]) == [True]
    assert calls == []
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}), aside=[photos.id("a")])
    index.collect()
    index.recover()
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}), aside=[photos.id("a")])


def test_an_excluded_photo_comes_back_without_new_vectors(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.commit([Exclude("/p/a.jpg")])
    assert index.encoded([photos.id("a")]) == [True]
    index, calls = milvus_calls(index, kit)
    assert index.commit([photos.adopt("/q/a.jpg", "a")]) == [True]
    assert "upsert" not in calls
    kit.assert_in_step(index, photos.expected({"/q/a.jpg": "a"}))


def test_an_excluded_copy_leaves_the_photo_its_other_path(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.bind("/q/a.jpg", "a")])
    index.commit([Exclude("/p/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/q/a.jpg": "a"}))


def test_a_photo_that_moves_while_its_old_path_is_excluded_is_never_without_one(
    index: Index, photos: Any, kit: Any
) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    assert index.commit([Exclude("/p/a.jpg"), photos.bind("/q/a.jpg", "a")]) == [True, True]
    kit.assert_in_step(index, photos.expected({"/q/a.jpg": "a"}))


def test_a_failure_that_is_excluded_is_none_any_more(index: Index, photos: Any, kit: Any) -> None:
    index.commit([fail("/p/a.jpg"), photos.add("/p/b.jpg", "b")])
    index.commit([Exclude("/p/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}))


def test_vectors_of_excluded_photos_go_after_their_time(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a"), photos.add("/p/b.jpg", "b")])
    index.commit([Exclude("/p/a.jpg")])
    index.drop_aside(3600.0)
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}), aside=[photos.id("a")])
    index.drop_aside(0.0)
    kit.assert_in_step(index, photos.expected({"/p/b.jpg": "b"}))


def test_a_clock_that_was_put_back_keeps_no_vectors_for_ever(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.commit([Exclude("/p/a.jpg")])
    redis: Any = index.mappings._redis
    redis.zadd(index.mappings.keys.aside, {str(photos.id("a")): time.time() + 10**9})
    index.drop_aside(3600.0)
    assert redis.zscore(index.mappings.keys.aside, photos.id("a")) <= time.time()
    index.drop_aside(0.0)
    kit.assert_in_step(index, {})


def test_nothing_is_kept_of_a_photo_whose_writing_was_cut_short(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.mappings.intend([photos.id("a")])
    index.commit([Exclude("/p/a.jpg")])
    kit.assert_in_step(index, {})
