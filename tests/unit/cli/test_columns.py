from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.report.columns import cells, padded, shortened


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("boat.jpg", 8), ("写真.jpg", 8), ("cafe\u0301", 4), ("café", 4), ("\uff22\uff2f", 4)],
)
def test_wide_characters_take_two_columns_and_combining_ones_none(text: str, width: int) -> None:
    assert cells(text) == width


def test_what_is_too_long_loses_its_middle_and_keeps_more_of_its_end() -> None:
    assert shortened("2024/harbour/IMG_2041.jpg", 25) == "2024/harbour/IMG_2041.jpg"
    assert shortened("2024/harbour/IMG_2041.jpg", 16) == "2024/…G_2041.jpg"
    assert shortened("写真写真写真写真.jpg", 12) == "写…写真.jpg"
    assert shortened("boat.jpg", 1) == "…"


def test_padding_counts_columns_and_not_characters() -> None:
    assert padded("写", 4) == "写  "
    assert padded("boat", 2) == "boat"


@settings(deadline=None)
@given(st.text(), st.integers(1, 40))
def test_no_text_is_wider_than_its_column(text: str, width: int) -> None:
    short = shortened(text, width)

    assert cells(short) <= width
    assert cells(padded(short, width)) == width
