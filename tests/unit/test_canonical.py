"""The one form in which a path is taken."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.canonical import fault
from daemon.paths import absolute

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {b"/", b"\0"} & {name[n : n + 1] for n in range(len(name))} and name not in (b".", b"..")
)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "absolute"),
        ("photos/a.jpg", "absolute"),
        ("./a.jpg", "absolute"),
        ("~/a.jpg", "absolute"),
        ("//photos/a.jpg", "normalised"),
        ("///photos/a.jpg", "normalised"),
        ("/photos//a.jpg", "normalised"),
        ("/photos/./a.jpg", "normalised"),
        ("/photos/.", "normalised"),
        ("/photos/../etc/passwd", "normalised"),
        ("/photos/..", "normalised"),
        ("/..", "normalised"),
        ("/photos/", "normalised"),
        ("//", "normalised"),
        ("/a\0b", "no file"),
        ("/\ud800", "no file"),
        ("/caf\udcc3\udca9.jpg", "no file"),
    ],
)
def test_any_other_form_is_refused_with_its_reason(path: str, why: str) -> None:
    assert why in fault(path)


@pytest.mark.parametrize("path", ["/", "/photos", "/photos/...", "/photos/.a/..b/c..", "/latin-\udce9.jpg", "/a\n b"])
def test_the_one_form_is_taken(path: str) -> None:
    assert fault(path) == ""


@given(st.lists(NAMES, min_size=1, max_size=8))
def test_every_path_that_a_walk_can_give_is_taken(names: list[bytes]) -> None:
    assert fault(os.fsdecode(b"/" + b"/".join(names))) == ""


@given(st.lists(st.sampled_from(["a", ".", "..", "", "/", "~"]), max_size=6))
def test_whatever_a_user_writes_is_brought_into_the_one_form(parts: list[str]) -> None:
    path = absolute("/".join(parts))
    assert fault(path) == ""
    assert absolute(path) == path
