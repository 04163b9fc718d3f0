from __future__ import annotations

import pytest

from cli.report.text import duration, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/Bilder/Grüße 写真 📷.jpg", "/Bilder/Grüße 写真 📷.jpg"),
        ("narrow\u202fno-break, wide\u3000space", "narrow\u202fno-break, wide\u3000space"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[2J\x00\x7f", "\\x1b[2J\\x00\\x7f"),
        ("caf\udce9", "caf\\xe9"),
        ("\x9b\u2028\u202e", "\\u009b\\u2028\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_escapes_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.2134, "0.21 s"),
        (12.3, "12 s"),
        (125, "2 min"),
        (2 * 3600 + 300, "2 h 5 min"),
        (86400, "1 day 0 h"),
        (3 * 86400 + 4 * 3600, "3 days 4 h"),
    ],
)
def test_durations_are_rounded_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
