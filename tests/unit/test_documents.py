"""What is read from YAML, and what is said of what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.documents import MAX_BYTES, Document
from daemon.errors import ConfigError


def read(text: str) -> object:
    document = Document("test.yaml", text)
    assert document.problems == []
    return document.data


def problems(text: str) -> tuple[str, ...]:
    """Return what is wrong with a document, whether it could be read or not."""
    try:
        return tuple(Document("test.yaml", text).problems)
    except ConfigError as error:
        return error.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("True", True), ("FALSE", False),
        ("null", None), ("~", None), ("", None), ("NULL", None),
        ("0", 0), ("-17", -17), ("+5", 5), ("010", "010"), ("1_000", "1_000"), ("0x1f", "0x1f"), ("0b1", "0b1"),
        ("12:30:45", "12:30:45"), ("2024-01-02", "2024-01-02"), ("2024-01-02 03:04:05", "2024-01-02 03:04:05"),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), (".inf", float("inf")), ("-.inf", -float("inf")),
        ("1.2.3", "1.2.3"), ("=", "="), ("<<", "<<"), ("'7'", "7"), ('"true"', "true"), ("!!str 7", "7"), ("!!int '7'", 7),
        ("a b", "a b"), ("~/Pictures", "~/Pictures"), ("naïve 🌞", "naïve 🌞"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = read(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("no: 1\n010: 2\ntrue: 3\nnull: 4\n12:30: 5") == {"no": 1, "010": 2, "true": 3, "null": 4, "12:30": 5}


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "---\n", "null", "\ufeff# marked"])
def test_an_empty_document_is_an_empty_mapping(text: str) -> None:
    assert read(text) == {}


def test_mappings_and_lists_may_be_nested() -> None:
    assert read("a: &x [1, {b: c}]\n") == {"a": [1, {"b": "c"}]}


LAUGHS = "a: &a [x, x]\n" + "".join(f"{y}: &{y} [*{x}, *{x}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]", "&a\nb: *a", "a: &x 1\nb: *x", "a: &x {}\nb: {<<: *x}"])
def test_an_alias_is_refused_before_it_expands(text: str) -> None:
    (problem,) = problems(text)
    assert problem.endswith("aliases (*) are not read; write the value again")


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 5000 + "]" * 5000, "a: " + "{b: " * 33 + "1" + "}" * 33, "- " * 40 + "a"]
)
def test_a_document_that_is_nested_too_deeply_is_refused(text: str) -> None:
    (problem,) = problems(text)
    assert problem.endswith("it is nested more than 32 levels deep")


def test_a_document_of_more_bytes_than_anybody_writes_is_refused(tmp_path: Path) -> None:
    text = "a: " + "x" * MAX_BYTES
    assert problems(text) == ("it has more than 256 KiB",)
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="more than 256 KiB"):
        Document.read(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "only text", "7", "[]"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert problems(text) == ("the document must be a mapping of keys to values",)


def test_every_key_that_is_given_twice_is_told_with_both_lines() -> None:
    text = "a: 1\nb:\n  c: 1\n  c: 2\na: 2\nlist:\n- x: 1\n  x: 2\n"
    assert problems(text) == (
        "At 'b.c' (line 4): this key was already given on line 3",
        "At 'a' (line 5): this key was already given on line 1",
        "At 'list[0].x' (line 8): this key was already given on line 7",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !!int x", "At 'a' (line 1): 'x' is no int"),
        ("a: !!int ''", "At 'a' (line 1): '' is no int"),
        ("a: !!float x", "At 'a' (line 1): 'x' is no float"),
        ("a: !!bool maybe", "At 'a' (line 1): 'maybe' is no bool"),
        ("a: !!map x", "At 'a' (line 1): 'x' is no map"),
        ("a: " + "9" * 5000, f"At 'a' (line 1): '{'9' * 40}' is no int"),
        (
            "\na: !!python/object:os.system x",
            "At 'a' (line 2): the tag tag:yaml.org,2002:python/object:os.system is not known",
        ),
        ("a: !secret x", "At 'a' (line 1): the tag !secret is not known"),
        ("a: !!binary eA==", "At 'a' (line 1): the tag tag:yaml.org,2002:binary is not known"),
        ("a:\n  ? [b, c]\n  : d", "At 'a' (line 2): a key must be plain text"),
    ],
)
def test_a_value_that_its_tag_does_not_fit_is_told_with_its_place(text: str, problem: str) -> None:
    assert problems(text) == (problem,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\tb: 1", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: [1, 2", "line 1, column 9: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "line 2, column 1: but found another document"),
    ],
)
def test_what_is_not_yaml_is_told_with_line_and_column(text: str, expected: str) -> None:
    assert problems(text) == (expected,)


def test_control_characters_are_refused() -> None:
    assert len(problems("a: \x00")) == 1


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: b\nname: caf\xe9\n")
    for path, reason in (
        (latin, "it cannot be read: it is not UTF-8 text (byte 14)"),
        (tmp_path / "absent.yaml", "it cannot be read: No such file or directory"),
        (tmp_path, "it cannot be read: Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            Document.read(path)
        assert caught.value.problems == (reason,)
        assert str(path) in str(caught.value)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    either: int | Inner
    inners: list[Inner]


def test_what_a_model_refuses_is_told_by_key_and_line_and_never_by_the_type_that_was_tried() -> None:
    document = Document(
        "test.yaml", "inners:\n- count: 1\n- count: x\n  colour: red\n- {}\neither:\n  count: y\nspare: 1\nspare: 2\n"
    )
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document.data)
    refused = document.refuse(caught.value).problems
    assert refused[0] == "At 'spare' (line 9): this key was already given on line 8"
    assert "At 'inners[1].count' (line 3): should be a valid integer, unable to parse string as an integer" in refused
    assert "At 'inners[1].colour' (line 4): this key is not known; remove it, or check its spelling" in refused
    assert "At 'inners[2].count' (line 5): this key is missing; add it" in refused
    assert "At 'either.count' (line 7): should be a valid integer, unable to parse string as an integer" in refused
    assert "At 'spare' (line 8): this key is not known; remove it, or check its spelling" in refused
    assert not any("Inner" in problem for problem in refused)


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: int


class Link(BaseModel):
    """Its kind is also the name of one of its keys."""

    kind: Literal["link"]
    link: int
    size: int


class Drawing(BaseModel):
    shapes: list[Annotated[Circle | Link, Field(discriminator="kind")]]
    file: Path
    corner: tuple[int, int]
    frame: Inner


def test_a_kind_that_is_misspelt_or_missing_is_told_where_it_belongs() -> None:
    text = "shapes:\n- kind: square\n- radius: 1\n- text\n- kind: circle\nfile: x\ncorner: [1, 2]\nframe: {count: 1}\n"
    assert refusals(Drawing, text) == (
        "At 'shapes[0].kind' (line 2): should be 'circle' or 'link'",
        "At 'shapes[1].kind' (line 3): this key is missing; add it",
        "At 'shapes[2]' (line 4): should be a mapping of keys to values",
        "At 'shapes[3].radius' (line 5): this key is missing; add it",
    )


def test_a_kind_that_is_called_like_a_key_is_not_taken_for_it() -> None:
    text = "shapes:\n- {kind: link, link: x}\n- {kind: link, size: 1}\nfile: x\ncorner: [1, 2]\nframe: {count: 1}\n"
    assert refusals(Drawing, text) == (
        "At 'shapes[0].link' (line 2): should be a valid integer, unable to parse string as an integer",
        "At 'shapes[0].size' (line 2): this key is missing; add it",
        "At 'shapes[1].link' (line 3): this key is missing; add it",
    )


def test_what_pydantic_says_of_python_is_said_in_yaml_s_words() -> None:
    assert refusals(Drawing, "shapes: []\nfile: 7\ncorner: [1]\nframe: 7\n") == (
        "At 'file' (line 2): should be a path",
        "At 'corner[1]' (line 3): this value is missing; add it",
        "At 'frame' (line 4): should be a mapping of keys to values",
    )


def test_a_missing_key_can_have_a_message_of_its_own() -> None:
    document = Document("test.yaml", "frame: {}\n")
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(document.data)
    refused = document.refuse(caught.value, {("frame", "count"): "this key is missing; count the corners"}).problems
    assert "At 'frame.count' (line 1): this key is missing; count the corners" in refused
    assert "At 'file': this key is missing; add it" in refused


def refusals(model: type[BaseModel], text: str) -> tuple[str, ...]:
    document = Document("test.yaml", text)
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document.data)
    return document.refuse(caught.value).problems


def test_a_problem_of_a_place_that_was_not_written_has_the_line_of_what_is_around_it() -> None:
    document = Document("test.yaml", "a:\n  b: 1\n")
    assert document.problem(("a", "c"), "is missing") == "At 'a.c' (line 1): is missing"
    assert document.problem(("x", 0), "is wrong") == "At 'x[0]': is wrong"
    assert document.problem((), "is wrong") == "is wrong"


def test_a_value_that_was_put_over_the_document_is_told_by_its_origin() -> None:
    document = Document("test.yaml", "a:\n  b: 1\n  c: 2\nflat: 3\n")
    document.set(("a", "b"), 7, "In B")
    document.set(("new", "key"), 8, "In KEY")
    document.set(("flat", "key"), 9, "In FLAT")
    assert document.data == {"a": {"b": 7, "c": 2}, "flat": 3, "new": {"key": 8}}
    assert document.problem(("a", "b", 0), "is wrong") == "In B: is wrong"
    assert document.problem(("a", "c"), "is wrong") == "At 'a.c' (line 3): is wrong"
    assert document.problem(("new", "key"), "is wrong") == "In KEY: is wrong"
    assert document.problem(("flat",), "is wrong") == "At 'flat' (line 4): is wrong"
    assert [document.is_written(place) for place in (("a", "b"), ("a", "c"), ("flat", "key"), ())] == [
        False, True, True, True,
    ]  # fmt: skip
