from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.api.asking import File, Photo, Picture, Question, Term, Text, question
from daemon.errors import QueryError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "path", "id", "weight"]), inner)
    ),
    max_leaves=6,
)


def asked(value: Any, **options: Any) -> Question:
    return question(json.dumps(value).encode(), is_json=True, limit=10, **options)


def sentence(value: Any) -> str:
    with pytest.raises(QueryError) as caught:
        asked(value)
    assert caught.value.code == "bad_request"
    return str(caught.value)


def test_bytes_are_one_picture() -> None:
    found = question(b"{}", is_json=False, limit=3, models=["a", "b", "a"], fuse="rrf")

    assert found == Question("bytes", (Term(Picture(b"{}")),), 3, ("a", "b"), fuse=True)
    assert (found.lone, found.has_text) == (True, False)


def test_every_kind_of_term_is_read_with_its_weight() -> None:
    found = asked(
        {
            "terms": [
                {"text": " at night "},
                {"path": "/a.jpg", "size": 1, "mtime_ns": 2, "weight": -1},
                {"path": "/b.jpg"},
                {"id": "9223372036854775807", "weight": 1000},
                {"id": 7},
                {"image": base64.b64encode(b"an image").decode(), "weight": 0.25},
            ]
        }
    )

    assert found.terms == (
        Term(Text(" at night "), 1.0),
        Term(File("/a.jpg", 1, 2), -1.0),
        Term(File("/b.jpg"), 1.0),
        Term(Photo(2**63 - 1), 1000.0),
        Term(Photo(7), 1.0),
        Term(Picture(b"an image"), 0.25),
    )
    assert (found.by, found.lone, found.has_text) == ("terms", False, True)


def test_a_question_says_how_it_was_asked() -> None:
    assert asked({"path": "/a", "size": 3}) == Question("path", (Term(File("/a", 3)),), 10)
    assert asked({"id": 5}) == asked({"id": "5"}) == Question("id", (Term(Photo(5)),), 10)
    assert asked({"terms": [{"text": "boat"}]}).by == "text"
    assert asked({"terms": [{"path": "/a"}]}).by == "terms"
    assert not asked({"terms": [{"path": "/a", "weight": -1}]}).lone


@pytest.mark.parametrize(
    "weight", [0, 0.0, -0.0, 1000.1, -1001, 10**400, "1", None, True, [1], float("nan"), float("inf")]
)
def test_a_weight_that_cannot_be_is_one_sentence(weight: object) -> None:
    expected = "a weight must be a number from -1000 to 1000, and not 0"
    assert sentence({"terms": [{"text": "boat", "weight": weight}]}) == expected


@pytest.mark.parametrize(
    "term",
    [
        {},
        [],
        "boat",
        None,
        {"weight": 1},
        {"text": "boat", "path": "/a"},
        {"text": "boat", "wieght": 2},
        {"text": "boat", "size": 2},
        {"id": "1", "mtime_ns": 2},
    ],
)
def test_a_term_is_one_thing_and_its_weight(term: object) -> None:
    assert sentence({"terms": [term]}).startswith("a term must be an object with one of 'text', 'path'")


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"text": ""}, "a term's 'text' must be words"),
        ({"text": " \n\t"}, "a term's 'text' must be words"),
        ({"text": 5}, "a term's 'text' must be words"),
        ({"text": "x" * 10_001}, "a text may have 10,000 characters, and this one has 10,001"),
        ({"text": "caf\udce9"}, "a term's 'text' must be Unicode: it holds bytes that are not UTF-8"),
        ({"path": 5}, "a 'path' must be the path of a file"),
        ({"path": "/a\0"}, "no file can have such a path"),
        ({"path": "/a", "size": 1.5}, "'size' must be a whole number"),
        ({"id": "-1"}, "'-1' is no photo's id; ids are the numbers that results carry"),
        ({"id": 2**63}, "'9223372036854775808' is no photo's id; ids are the numbers that results carry"),
        ({"id": True}, "'True' is no photo's id; ids are the numbers that results carry"),
        ({"id": ["1"]}, "'list' is no photo's id; ids are the numbers that results carry"),
        ({"id": 1.0}, "'float' is no photo's id; ids are the numbers that results carry"),
        ({"image": "=="}, "a term's 'image' must be the bytes of an image in base64"),
        ({"image": "é"}, "a term's 'image' must be the bytes of an image in base64"),
        ({"image": 5}, "a term's 'image' must be the bytes of an image in base64"),
        ({"image": None}, "a term's 'image' must be the bytes of an image in base64"),
    ],
)
def test_a_term_that_cannot_be_is_one_sentence(term: dict[str, object], said: str) -> None:
    assert sentence({"terms": [{"text": "boat"}, term]}) == said


def test_a_text_may_be_as_long_as_it_may_be() -> None:
    assert asked({"terms": [{"text": "x" * 10_000}] * 16}).has_text


@pytest.mark.parametrize("count", [0, 17])
def test_there_are_1_to_16_terms(count: int) -> None:
    assert sentence({"terms": [{"text": "boat"}] * count}) == f"a query has 1 to 16 terms, not {count}"


@pytest.mark.parametrize(
    "body", [{}, {"terms": {}}, {"terms": [{"text": "a"}], "id": 1}, {"path": "/a", "id": 1}, {"terms": {}, "id": None}]
)
def test_a_body_asks_in_one_way(body: object) -> None:
    assert sentence(body) == "the body must be an object with either a 'path', an 'id' or a list of 'terms'"


@pytest.mark.parametrize("fuse", ["", "sum", "RRF"])
def test_there_is_one_way_to_fuse(fuse: str) -> None:
    with pytest.raises(QueryError, match="'fuse' must be rrf"):
        asked({"id": 1}, fuse=fuse)


@settings(deadline=None)
@given(JSON)
def test_whatever_is_sent_is_a_question_or_one_sentence(value: Any) -> None:
    for body in (value, {"terms": value}, {"terms": [value]}):
        try:
            found = asked(body)
        except QueryError as error:
            assert (error.code, "\n" in str(error)) == ("bad_request", False)  # noqa: PT017 - either is right
        else:
            assert 1 <= len(found.terms) <= 16


@settings(deadline=None)
@given(st.binary())
def test_whatever_bytes_are_sent_as_json_are_a_question_or_one_sentence(body: bytes) -> None:
    try:
        question(body, is_json=True, limit=1)
    except QueryError as error:
        assert error.code == "bad_request"  # noqa: PT017 - either is right
