from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from cli.commands.compare import _UNDERSTAND_TEXT
from cli.report.columns import cells
from cli.report.compare import compare_lines, overlap, overlap_lines
from daemon import paths
from tests.unit.cli.conftest import search_answer

if TYPE_CHECKING:
    from pathlib import Path

    from cli.answers import SearchAnswer
    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def answer(model: str, *found: tuple[float, str], asked: str | None = None) -> SearchAnswer:
    """Return what a model found: (score, path) each, the path standing for the id as well."""
    made = search_answer(*((score, [path]) for score, path in found))
    for match, (_, path) in zip(made["results"], found, strict=True):
        match["id"] = path
    return cast("SearchAnswer", made | {"model": model, "query": {"by": "path", "id": asked}})


def test_two_lists_stand_side_by_side_with_what_they_share_marked(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path
) -> None:
    daemon.will_answer(answer("one", (1.0, "/pictures/a.jpg"), (0.5, "/pictures/sub/b.jpg"), (0.25, "/pictures/c.jpg")))
    daemon.will_answer(answer("two", (0.0, "/pictures/a.jpg"), (12.5, "/pictures/c.jpg")) | {"metric": "l2"})

    done = lookalike("compare", "photo.jpg", "--model", "one", "--model", "two", "-n", "3")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "in /pictures",
        "",
        "   one (cosine)       two (l2)",
        "1  1.000 * a.jpg       0.000 * a.jpg",
        "2  0.500   sub/b.jpg  12.500 * c.jpg",
        "3  0.250 * c.jpg",
        "",
        "* 2 of 3 photos in both lists (67%)",
    ]
    assert [request.target for request in daemon.requests] == [
        "/v1/search?limit=3&model=one",
        "/v1/search?limit=3&model=two",
    ]
    assert len({request.connection for request in daemon.requests}) == 1


def test_the_overlap_does_not_count_the_photo_that_was_asked_about() -> None:
    answers = [
        answer("one", (1.0, "/a"), (0.5, "/b"), (0.4, "/c"), asked="/a"),
        answer("two", (1.0, "/a"), (0.5, "/c"), (0.4, "/d"), asked="/a"),
    ]

    assert overlap(answers) == {
        "photos": 1,
        "of": 2,
        "share": 0.5,
        "ids": ["/c"],
        "pairs": [{"models": ["one", "two"], "photos": 1, "share": 0.5}],
    }
    assert overlap_lines(answers) == ["* 1 of 2 photos in both lists (50%), besides the photo itself"]


def test_more_than_two_lists_have_an_overlap_for_every_two() -> None:
    answers = [
        answer("one", (0.9, "/a"), (0.8, "/b"), (0.7, "/c")),
        answer("two", (0.9, "/b"), (0.8, "/a"), (0.7, "/d")),
        answer("three", (0.9, "/e"), (0.8, "/a")),
    ]

    lines = compare_lines(answers, width=80)

    assert lines == [
        "   one (cosine)  two (cosine)  three (cosine)",
        "1  0.900 * /a    0.900 + /b    0.900   /e",
        "2  0.800 + /b    0.800 * /a    0.800 * /a",
        "3  0.700   /c    0.700   /d",
    ]
    assert overlap_lines(answers) == [
        "* 1 of 3 photos in every list (33%)",
        "+ in some of the other lists",
        "  one and two: 2 (67%)",
        "  one and three: 1 (33%)",
        "  two and three: 1 (33%)",
    ]


def test_lists_that_found_nothing_share_nothing() -> None:
    assert overlap([answer("one"), answer("two")])["share"] == 0.0


def long_answers(models: int) -> list[SearchAnswer]:
    paths = [f"/pictures/{'very/' * n}long/写真 {n:04}.jpg" for n in range(12)]
    return [answer(f"a-model-with-quite-a-long-name-{n}", *((0.5, path) for path in paths)) for n in range(models)]


@pytest.mark.parametrize(("models", "width"), [(2, 80), (3, 100), (4, 130)])
def test_long_paths_are_shortened_to_fit_a_terminal(models: int, width: int) -> None:
    lines = compare_lines(long_answers(models), width=width)

    assert max(map(cells, lines)) <= width
    assert all(len(re.findall(r"\d\.jpg", line)) == models for line in lines[3:])


@pytest.mark.parametrize(("models", "width"), [(2, 50), (3, 80), (4, 80)])
def test_lists_stand_below_one_another_where_columns_would_be_too_narrow(models: int, width: int) -> None:
    lines = compare_lines(long_answers(models), width=width)

    assert max(map(cells, lines)) <= width
    assert [line for line in lines if "cosine" in line] == [
        f"a-model-with-quite-a-long-name-{n} (cosine)" for n in range(models)
    ]
    assert sum(line.startswith("12  0.500 * ") for line in lines) == models
    assert lines[:5] == [
        "in /pictures",
        "",
        "a-model-with-quite-a-long-name-0 (cosine)",
        " 1  0.500 * long/写真 0000.jpg",
        " 2  0.500 * very/long/写真 0001.jpg",
    ]


def test_four_lists_stand_side_by_side_where_they_fit_whole() -> None:
    lines = compare_lines([answer(name, (0.5, "/a.jpg")) for name in ("one", "two", "three", "four")], width=80)

    assert lines == [
        "   one (cosine)    two (cosine)    three (cosine)  four (cosine)",
        "1  0.500 * /a.jpg  0.500 * /a.jpg  0.500 * /a.jpg  0.500 * /a.jpg",
    ]


def test_stacked_lists_are_told_apart_with_their_own_marks() -> None:
    answers = [answer("one", (0.9, "/a"), (0.8, "/b" * 30)), answer("two", (0.9, "/b" * 30)), answer("three")]

    assert compare_lines(answers, width=40) == [
        "one (cosine)",
        "1  0.900   /a",
        "2  0.800 + /b/b/b/b/…b/b/b/b/b/b/b/b/b/b",
        "",
        "two (cosine)",
        "1  0.900 + /b/b/b/b/…b/b/b/b/b/b/b/b/b/b",
        "",
        "three (cosine)",
    ]


def test_json_holds_the_answers_and_the_overlap(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    answers = [answer("one", (1.0, "/caf\udce9.jpg")), answer("two", (1.0, "/caf\udce9.jpg"))]
    for one in answers:
        daemon.will_answer(one)

    done = lookalike("compare", "photo.jpg", "--json", "--model", "one", "--model", "two")

    found = json.loads(done.stdout)
    assert (found["schema"], found["models"], found["overlap"]["photos"]) == (1, answers, 1)
    assert os.fsencode(found["overlap"]["ids"][0]) == b"/caf\xe9.jpg"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_without_names_the_models_of_the_library_are_compared_at_most_four(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path, status_answer: dict[str, Any], options: list[str]
) -> None:
    daemon.will_answer(status_answer | {"models": [{"name": f"model-{n}"} for n in range(6)]})
    for n in range(4):
        daemon.will_answer(answer(f"model-{n}", (1.0, "/a.jpg")))

    done = lookalike("compare", "photo.jpg", *options)

    assert done.returncode == 0
    assert [request.target for request in daemon.requests[1:]] == [f"/v1/search?model=model-{n}" for n in range(4)]
    assert done.stderr == b"6 models can answer; these are the first 4, choose with --model\n"


def test_one_model_cannot_be_compared(
    lookalike: Lookalike, daemon: FakeDaemon, photo: Path, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)

    done = lookalike("compare", "photo.jpg")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (
        "a comparison needs two models, and this library has efficientnet-lite0; add another to 'models' in the"
        " configuration (lookalike models lists them)\n"
    )


def test_a_text_is_asked_of_the_models_that_understand_it(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    able = {"lite": False, "words": True, "dino": False, "clip": True}
    daemon.will_answer(status_answer | {"models": [{"name": name, "text": text} for name, text in able.items()]})
    for name in ("words", "clip"):
        daemon.will_answer(answer(name, (1.0, "/a.jpg")))

    done = lookalike("compare", "elephant")

    assert (done.returncode, done.stderr) == (0, b"")
    assert [request.target for request in daemon.requests[1:]] == ["/v1/search?model=words", "/v1/search?model=clip"]


@pytest.mark.parametrize(
    ("able", "sentence"),
    [
        (
            {"lite": False, "words": True},
            (
                "here only words understands text, and a comparison needs two models that do; pull clip-vit-b32 or siglip2-base"
                " (lookalike models pull NAME), and add it to 'models' in the configuration\n"
            ),
        ),
        (
            {"lite": False, "clip-vit-b32": True},
            (
                "here only clip-vit-b32 understands text, and a comparison needs two models that do; pull siglip2-base"
                " (lookalike models pull NAME), and add it to 'models' in the configuration\n"
            ),
        ),
        (
            {"lite": False},
            (
                "no model here understands text, and a comparison needs two models that do; pull clip-vit-b32 and siglip2-base"
                " (lookalike models pull NAME), and add them to 'models' in the configuration\n"
            ),
        ),
    ],
)
@pytest.mark.parametrize("options", [[], ["--model", "lite", "--model", "words"]])
def test_a_text_that_fewer_than_two_models_understand_cannot_be_compared(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    status_answer: dict[str, Any],
    able: dict[str, bool],
    sentence: str,
    options: list[str],
) -> None:
    daemon.will_answer(status_answer | {"models": [{"name": name, "text": text} for name, text in able.items()]})

    done = lookalike("compare", "elephant", *options)

    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", sentence)


def test_the_models_that_are_said_to_understand_text_are_shipped_and_do() -> None:
    for name in _UNDERSTAND_TEXT:
        assert "\ntext:\n" in (paths.shipped("models") / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("models", [["a"], ["a", "a"], ["a", "b", "c", "d", "e"]])
def test_too_few_and_too_many_models_are_wrong_usage(lookalike: Lookalike, models: list[str]) -> None:
    done = lookalike("compare", "a boat", *(part for model in models for part in ("--model", model)))

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"compare takes 2 to 4 models" in done.stderr


def test_an_image_from_standard_input_is_sent_to_each_model(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    for model in ("one", "two"):
        daemon.will_answer(answer(model, (0.5, "/a.jpg")))

    done = lookalike("compare", "-", "--model", "one", "--model", "two", stdin=b"an image")

    assert done.returncode == 0
    assert [request.body for request in daemon.requests] == [b"an image"] * 2


def test_an_empty_library_is_said_once(lookalike: Lookalike, daemon: FakeDaemon, photo: Path) -> None:
    for model in ("one", "two"):
        daemon.will_answer(answer(model))

    done = lookalike("compare", "photo.jpg", "--model", "one", "--model", "two")

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"No similar photos yet: the library is empty.\n"
