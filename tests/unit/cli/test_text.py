from __future__ import annotations

import pytest

from cli.report.text import duration, size_of
from daemon.names import printable


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


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1 kB"), (12_340, "12.3 kB"), (999_400, "999 kB"),
        (999_600, "1 MB"), (605_700_000, "606 MB"), (1_500_000_000, "1.5 GB"), (2_000_000_000_000, "2,000 GB"),
    ],
)  # fmt: skip
def test_a_size_is_in_the_unit_that_tells_enough(size: int, shown: str) -> None:
    assert size_of(size) == shown
