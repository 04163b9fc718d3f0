"""The index's contract: whatever is committed, and wherever it is cut short, both stores come to say the same."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.errors import StoreRefused, StoreUnavailable
from daemon.index.index import Encoded, Index
from daemon.index.keys import Keys
from daemon.index.mappings import PAGE, Add, Bind, Fail, Mappings, Remove, shown
from daemon.index.search import Search

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_photo_is_bound_and_has_a_vector_for_every_model(index: Index, photos: Any, kit: Any) -> None:
    assert index.commit([photos.add("/a.jpg", "a"), photos.add("/b.jpg", "b")]) == [True, True]
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a", "/b.jpg": "b"}))


def test_copies_share_one_vector_and_the_last_one_takes_it_along(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "a")])
    assert index.commit([photos.bind("/copy.jpg", "a")]) == [True]
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a", "/copy.jpg": "a"}))
    index.commit([Remove("/a.jpg")])
    kit.assert_in_step(index, photos.expected({"/copy.jpg": "a"}))
    index.commit([Remove("/copy.jpg")])
    kit.assert_in_step(index, {})


def test_two_copies_may_arrive_in_one_batch(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "a"), photos.add("/b.jpg", "a")])
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a", "/b.jpg": "a"}))


def test_other_content_at_a_path_takes_the_old_photo_away(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "old")])
    index.commit([photos.add("/a.jpg", "new")])
    kit.assert_in_step(index, photos.expected({"/a.jpg": "new"}))


def test_a_failure_unbinds_and_a_later_success_clears_it(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "a")])
    index.commit([Fail("/a.jpg", "the image is cut short", "1 2 3 4")])
    kit.assert_in_step(index, {}, failed=["/a.jpg"])
    index.commit([photos.add("/a.jpg", "b")])
    kit.assert_in_step(index, photos.expected({"/a.jpg": "b"}))


@pytest.mark.parametrize("removed_first", [True, False])
def test_a_move_leaves_milvus_untouched_whatever_its_place_in_the_batch(
    index: Index, photos: Any, kit: Any, *, removed_first: bool
) -> None:
    stat = photos.stat()
    index.commit([photos.add("/old.jpg", "a", stat)])
    calls: list[str] = []
    watched = Index(index.mappings, kit.recorded(index.vectors, before=calls.append), index.collections)
    move, removal = photos.bind("/new.jpg", "a", stat, moved_from="/old.jpg"), Remove("/old.jpg")
    watched.commit([removal, move] if removed_first else [move, removal])
    assert not {"upsert", "delete"} & set(calls)
    kit.assert_in_step(index, photos.expected({"/new.jpg": "a"}))


def test_a_move_does_not_take_the_old_path_from_the_file_that_is_there_now(index: Index, photos: Any, kit: Any) -> None:
    stat = photos.stat()
    index.commit([photos.add("/old.jpg", "a", stat)])
    index.commit([photos.add("/old.jpg", "b"), photos.bind("/new.jpg", "a", stat, moved_from="/old.jpg")])
    index.commit([photos.add("/new.jpg", "a", stat)])
    kit.assert_in_step(index, photos.expected({"/old.jpg": "b", "/new.jpg": "a"}))


def test_a_path_is_not_bound_to_a_photo_that_is_not_there(index: Index, photos: Any, kit: Any) -> None:
    assert index.commit([photos.bind("/a.jpg", "unknown")]) == [False]
    kit.assert_in_step(index, {})


def test_names_are_bytes(index: Index, photos: Any, kit: Any) -> None:
    names = [
        os.fsdecode(name) for name in (b"/x/new\nline.jpg", b"/x/\xff\xfe.jpg", "/x/🌞.jpg".encode(), b"/x/a b*?[.jpg")
    ]
    index.commit(
        [photos.add(name, name) for name in names[:1]] + [photos.add(name, str(n)) for n, name in enumerate(names[1:])]
    )
    kit.assert_in_step(
        index, photos.expected({names[0]: names[0]} | {name: str(n) for n, name in enumerate(names[1:])})
    )
    assert [path for path, _ in index.mappings.stream("/x")] == sorted(map(os.fsencode, names))


def test_the_files_below_a_folder_are_those_below_it_in_byte_order_over_many_pages(index: Index, photos: Any) -> None:
    inside = [f"/in/{n:05}.jpg" for n in range(PAGE + 3)]
    index.mappings.apply(
        [Add(path, photos.stat(), photos.info("a")) for path in [*inside, "/in.jpg", "/in0/x.jpg", "/inn/x.jpg"]], []
    )
    assert [os.fsdecode(path) for path, _ in index.mappings.stream("/in")] == inside
    assert index.mappings.count_below("/in") == len(inside)
    assert index.mappings.counts().files == len(inside) + 3


class Crash(BaseException):
    """The process is gone."""


def _crashing_at(step: int, error: BaseException) -> Callable[[str], None]:
    steps = iter(range(1000))

    def call(_: str) -> None:
        if next(steps) == step:
            raise error

    return call


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("step", range(10))
def test_a_commit_cut_short_at_any_step_is_finished_by_the_next_start(
    index: Index, stores: Any, photos: Any, kit: Any, step: int, *, after: bool
) -> None:
    moved = photos.stat()
    index.commit(
        [
            photos.add("/m.jpg", "m", moved),
            photos.add("/o.jpg", "o"),
            photos.add("/r.jpg", "r"),
            photos.add("/c.jpg", "c"),
        ]
    )
    crash = _crashing_at(step, Crash())
    hook = {"after": crash} if after else {"before": crash}
    cut = Index(kit.recorded(index.mappings, **hook), kit.recorded(index.vectors, **hook), index.collections)
    with contextlib.suppress(Crash):
        cut.commit(
            [
                photos.add("/new.jpg", "new"),
                photos.bind("/c2.jpg", "c"),
                photos.bind("/m2.jpg", "m", moved, moved_from="/m.jpg"),
                photos.add("/o.jpg", "o2"),
                Remove("/r.jpg"),
            ]
        )
    again = stores.again(index)
    wanted = {"/new.jpg": "new", "/c.jpg": "c", "/c2.jpg": "c", "/m2.jpg": "m", "/o.jpg": "o2"}
    kit.converge(again, photos, wanted)
    kit.assert_in_step(again, photos.expected(wanted))
    again.stop()


def test_vectors_that_were_lost_are_owed(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "a"), photos.add("/b.jpg", "b")])
    index.vectors.delete(index.collections[1].name, [photos.id("a")])
    index.recover()
    assert kit.backlog_of(index) == ["/a.jpg"]
    kit.converge(index, photos, {"/a.jpg": "a", "/b.jpg": "b"})
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a", "/b.jpg": "b"}))


def test_ghost_vectors_are_never_shown_and_are_collected(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/a.jpg", "a"), photos.add("/ghost.jpg", "ghost")])
    for key in (index.mappings.keys.photo(photos.id("ghost")), index.mappings.keys.paths(photos.id("ghost"))):
        index.mappings._redis.delete(key)
    index.mappings._redis.srem(index.mappings.keys.photos, photos.id("ghost"))
    index.mappings._redis.zrem(index.mappings.keys.files, "/ghost.jpg")
    index.mappings._redis.delete(index.mappings.keys.file("/ghost.jpg"))
    index.mappings._redis.hdel(index.mappings.keys.inodes, f"64:{2}")
    search = Search(index, lambda _: True)
    found = search.nearest(index.collections[0], photos.vector("ghost"), 5, most=10)
    assert [result.paths for result in found] == [["/a.jpg"]]
    kit.converge(index, photos, {"/a.jpg": "a"})
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a"}))


def test_an_emptied_mapping_is_rebuilt_without_encoding(index: Index, photos: Any, kit: Any) -> None:
    wanted = {"/a.jpg": "a", "/b.jpg": "b"}
    index.commit([photos.add(path, content) for path, content in wanted.items()] + [photos.add("/gone.jpg", "gone")])
    kit.empty(index)
    assert not index.in_order()
    calls: list[str] = []
    watched = Index(index.mappings, kit.recorded(index.vectors, before=calls.append), index.collections)
    kit.converge(watched, photos, wanted)
    assert "upsert" not in calls
    kit.assert_in_step(index, photos.expected(wanted))


PATHS = [f"/{name}.jpg" for name in ("a", "b", "c", "dir/a", "dir/b")]
CONTENTS = ["red", "green", "blue"]
steps = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "remove", "fail", "move"]),
            st.sampled_from(PATHS),
            st.sampled_from([*CONTENTS, *PATHS]),
        ),
        max_size=5,
        unique_by=lambda step: step[1],
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_batches_of_changes_end_as_a_plain_dictionary_says(stores: Any, kit: Any, batches: list[Any]) -> None:
    index, photos = stores.library(models=("one",)), kit.photos()
    index.recover()
    model: dict[str, tuple[str, Any]] = {}
    failed: set[str] = set()
    for batch in batches:
        changes, after = _planned(index, photos, model, failed, batch)
        for change, done in zip(changes, index.commit(changes), strict=True):
            assert done, change
        model = after
    kit.assert_in_step(index, photos.expected({path: content for path, (content, _) in model.items()}), failed=failed)
    kit.drop(index)


def _planned(
    index: Index, photos: Any, model: dict[str, tuple[str, Any]], failed: set[str], batch: list[Any]
) -> tuple[list[Any], dict[str, tuple[str, Any]]]:
    changes: list[Any] = []
    after = dict(model)
    for kind, path, other in batch:
        if (
            kind == "move"
            and other in model
            and other in after
            and path != other
            and not any(one[1] == other for one in batch)
        ):
            content, stat = after.pop(other)
            after[path] = (content, stat)
            failed.discard(path)
            changes.append(Bind(path, stat, photos.id(content), moved_from=other))
        elif kind == "put" and other in CONTENTS:
            stat = photos.stat()
            after[path] = (other, stat)
            failed.discard(path)
            changes.append(photos.add(path, other, stat, models=1))
        elif kind in ("remove", "fail"):
            after.pop(path, None)
            (failed.add if kind == "fail" else failed.discard)(path)
            changes.append(Fail(path, "bad", "1 2 3 4") if kind == "fail" else Remove(path))
    return changes, after


def test_a_store_that_is_away_is_said_in_a_sentence_without_its_password(photos: Any) -> None:
    mappings = Mappings("redis://me:secret@127.0.0.1:1/0", Keys("away"), timeout_seconds=1)
    with pytest.raises(StoreUnavailable, match=r"Redis at redis://127\.0\.0\.1:1/0 cannot be reached") as caught:
        mappings.counts()
    assert "secret" not in str(caught.value)
    mappings.close()


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("redis://u:p@host:1/0", "redis://host:1/0"),
        ("unix:///run/x.sock?db=1", "unix:///run/x.sock"),
        ("redis://host", "redis://host"),
    ],
)
def test_what_is_shown_of_a_url_has_no_secret(url: str, safe: str) -> None:
    assert shown(url) == safe


def test_a_library_of_another_layout_is_refused(index: Index) -> None:
    index.mappings._redis.set(index.mappings.keys.schema, b"99")
    with pytest.raises(StoreRefused, match="layout 99"):
        index.mappings.establish()


def test_a_collection_of_another_dimension_is_refused(index: Index) -> None:
    one = index.collections[0]
    with pytest.raises(StoreRefused, match="8 dimensions where the model has 9"):
        index.vectors.ensure(one.name, dim=9, metric="cosine")


def test_collections_are_loaded_again_after_the_server_was_restarted(own_stores: Any, photos: Any, kit: Any) -> None:
    index = own_stores.library()
    index.recover()
    index.commit([photos.add("/a.jpg", "a")])
    own_stores.milvus.stop()
    with pytest.raises(StoreUnavailable, match="Milvus at"):
        index.commit([photos.add("/b.jpg", "b")])
    own_stores.milvus.start()
    kit.eventually(lambda: _recovers(index))
    kit.converge(index, photos, {"/a.jpg": "a", "/b.jpg": "b"})
    kit.assert_in_step(index, photos.expected({"/a.jpg": "a", "/b.jpg": "b"}))
    index.stop()


def _recovers(index: Index) -> bool:
    try:
        index.recover()
    except StoreUnavailable:
        return False
    return True


def test_search_shows_only_what_may_be_shown_and_fetches_more_to_make_up_for_it(index: Index, photos: Any) -> None:
    names = [f"/in/{n}.jpg" if n % 4 == 0 else f"/out/{n}.jpg" for n in range(40)]
    index.commit([photos.add(name, name) for name in names])
    search = Search(index, lambda path: path.startswith("/in/"))
    found = search.nearest(index.collections[0], photos.vector("/out/1.jpg"), 10, most=1000)
    assert len(found) == 10
    assert all(result.paths[0].startswith("/in/") for result in found)
    scores = [result.score for result in found]
    assert scores == sorted(scores, reverse=True)


def test_the_photo_asked_about_comes_first_among_equals(index: Index, photos: Any) -> None:
    vector = photos.vector("same")
    vectors = {collection.model: vector for collection in index.collections}
    adds = [Encoded(Add(f"/{name}.jpg", photos.stat(), photos.info(name)), vectors) for name in "abcdef"]
    index.commit(adds)
    search = Search(index, lambda _: True)
    for name in "abcdef":
        found = search.nearest(index.collections[0], vector, 2, most=10, asked=photos.id(name))
        assert (found[0].paths, len(found)) == ([f"/{name}.jpg"], 2)
