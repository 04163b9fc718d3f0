from __future__ import annotations

import contextlib
import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.errors import CliError
from cli.terms import EXTENSIONS, Term, parse
from daemon.encode import images

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = st.decimals(min_value="0.001", max_value=1000, places=3).map(lambda weight: (f"{weight:f}", float(weight)))
WORDS = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boat.jpg").write_bytes(b"x")
    (tmp_path / "boat").write_bytes(b"x")
    (tmp_path / "holiday").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "term"),
    [
        ("boat.jpg", Term("image", "boat.jpg")),
        ("./boat.jpg", Term("image", "./boat.jpg")),
        ("boat", Term("image", "boat")),
        ("text:boat", Term("text", "boat")),
        ("a red boat at dusk", Term("text", "a red boat at dusk")),
        ("-", Term("image", "-")),
        ("2:-", Term("image", "-", 2)),
        ("2:boat.jpg", Term("image", "boat.jpg", 2)),
        ("0.5:boat", Term("image", "boat", 0.5)),
        (".5:at night", Term("text", "at night", 0.5)),
        ("3:text:boat", Term("text", "boat", 3)),
        ("text:3:boat", Term("text", "3:boat")),
        ("text:inf:boat", Term("text", "inf:boat")),
        ("note: boat", Term("text", "note: boat")),
        ("v1.2:boat", Term("text", "v1.2:boat")),
        ("text:./boat.jpg", Term("text", "./boat.jpg")),
        ("text:-", Term("text", "-")),
        ("holiday", Term("text", "holiday")),
        ("e.g. boats", Term("text", "e.g. boats")),
        ("caf\udce9", Term("text", "caf\udce9")),
        ("x" * 5000, Term("text", "x" * 5000)),
    ],
)
def test_a_term_is_an_image_where_it_names_one_and_else_a_text(directory: Path, argument: str, term: Term) -> None:
    assert parse([argument]) == (term,)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("cat.jpg", "cat.jpg does not exist"),
        ("CAT.HEIC", "CAT.HEIC does not exist"),
        ("2:cat.jpg", "cat.jpg does not exist"),
        ("holiday/cat.jpg", "holiday/cat.jpg does not exist"),
        ("black/white photo", "black/white photo does not exist; if it is a text, write 'text:black/white photo'"),
        ("holiday/", "holiday/ is a directory, not a photo"),
        ("..", ".. is a directory, not a photo"),
        ("boat.jpg/x.jpg", "boat.jpg/x.jpg cannot be read: not a directory"),
        ("", "a term of the query is empty: it must be an image file or a text"),
        (" \n", "a term of the query is empty: it must be an image file or a text"),
        ("text:", "a term of the query is empty: it must be an image file or a text"),
    ],
)
def test_what_is_meant_as_a_file_and_is_none_is_one_sentence(directory: Path, argument: str, sentence: str) -> None:
    with pytest.raises(CliError, match=f"^{re.escape(sentence)}$"):
        parse(["boat", "+", argument])


def test_a_file_whose_name_begins_like_a_weight_wins(directory: Path) -> None:
    (directory / "2:boat.jpg").write_bytes(b"x")
    (directory / "0:boat").write_bytes(b"x")

    assert parse(["2:boat.jpg", "-", "0:boat"]) == (Term("image", "2:boat.jpg"), Term("image", "0:boat", -1))


def test_a_minus_is_standard_input_where_a_term_stands_and_subtracts_between_terms() -> None:
    assert parse(["-", "-", "night", "+", "2:dusk"]) == (
        Term("image", "-"),
        Term("text", "night", -1),
        Term("text", "dusk", 2),
    )
    assert parse(["night", "-", "-"]) == (Term("text", "night"), Term("image", "-", -1))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a", "red", "boat"], "Between two terms stands + or -, not 'red'"),
        (["-", "people"], "Between two terms stands + or -, not 'people'"),
        (["boat", "+"], "After the last + a term is missing"),
        (["+", "boat"], "A + stands between two terms"),
        (["boat", "+", "+"], "A + stands between two terms"),
        (["-", "+", "2:-"], "Standard input can be read only once"),
        (["0:boat"], "The weight 0 is not above 0 and at most 1000"),
        (["1000.1:boat"], "The weight 1000.1 is not above 0 and at most 1000"),
        (["9" * 400 + ":boat"], "is not above 0 and at most 1000"),
    ],
)
def test_what_does_not_read_as_terms_is_wrong_usage(arguments: list[str], complaint: str) -> None:
    with pytest.raises(typer.BadParameter, match=re.escape(complaint)):
        parse(arguments)


@pytest.mark.parametrize(
    "weight", ["inf", "-inf", "nan", "Infinity", "1e3", "0,5", " 2", "2 ", "-2", "+2", "1_000", "\uff12", "1,5e-3"]
)
def test_a_number_that_is_no_weight_is_not_taken_for_a_text(directory: Path, weight: str) -> None:
    argument = f"{weight}:dog"
    said = f"as in 0.5:dog, and not {weight!r}; to search for the text itself, write {shlex.quote(f'text:{argument}')}."
    with pytest.raises(typer.BadParameter, match=re.escape(said)):
        parse(["boat", "+", argument])

    (directory / argument).write_bytes(b"x")
    assert parse([argument]) == (Term("image", argument),)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("+-"), WEIGHTS, WORDS), min_size=1, max_size=16))
def test_any_texts_with_any_weights_are_read_back(parts: list[tuple[str, tuple[str, float], str]]) -> None:
    arguments = [argument for sign, (weight, _), text in parts for argument in (sign, f"{weight}:text:{text}")]

    terms = parse(arguments[1:])

    signs = ["+", *(sign for sign, _, _ in parts[1:])]
    assert terms == tuple(
        Term("text", text, weight if sign == "+" else -weight)
        for sign, (_, (_, weight), text) in zip(signs, parts, strict=True)
    )


@settings(deadline=None)
@given(st.text().filter(lambda text: "\0" not in text))
def test_any_argument_is_a_term_or_an_error_for_a_person(argument: str) -> None:
    with contextlib.suppress(CliError, typer.BadParameter):
        (term,) = parse([argument])
        assert term.value in argument
        assert term.kind == "text" or term.value == "-" or os.path.exists(term.value)


def test_names_that_are_meant_as_images_are_those_that_the_daemon_indexes() -> None:
    assert set(EXTENSIONS) <= images.EXTENSIONS
