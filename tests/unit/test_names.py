"""The one `printable`, and that texts from elsewhere pass it on every way out but the log."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import relay
from daemon.api import metrics
from daemon.blame import sentence
from daemon.errors import ServiceError
from daemon.names import printable
from daemon.sdnotify import ServiceManager
from daemon.service import settings
from daemon.service.units import quoted

HOSTILE = "a\x1b[31m\r\nREADY=1\x85\u2028\u202e\udcff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("holidays é🌞", "holidays é🌞"),
        ("a\u202fb\u3000c", "a\u202fb\u3000c"),
        ("\n\r\t", r"\n\r\t"),
        ("\x1b[31m\x07\x7f", r"\x1b[31m\x07\x7f"),
        ("\x85\u2028\u202e\U000e0001", r"\u0085\u2028\u202e\U000e0001"),
        ("\udcff\ud800", r"\xff\ud800"),
    ],
)
def test_a_text_is_shown_so(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_no_character_at_all_steers_a_terminal_or_cannot_be_written() -> None:
    shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
    shown.encode()
    assert not any(character in shown for character in map(chr, [*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E]))


def test_the_service_manager_is_told_one_status(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("daemon.sdnotify.notify", lambda *states, **_: told.extend(states))
    ServiceManager({}).status(HOSTILE, at_once=True)
    (status,) = told
    assert status.isprintable()


def test_a_label_of_a_metric_is_printable() -> None:
    family = metrics._gauge("x", "What.", "model", {HOSTILE: 1.0})
    assert all(label.isprintable() for sample in family.samples for label in sample.labels.values())
    assert list(text_string_to_metric_families("x 1\n"))


def test_a_detail_of_a_librarys_error_is_printable() -> None:
    assert sentence("encoded", ValueError(HOSTILE)).isprintable()


@pytest.mark.parametrize("value", ["a\nUser=root", "a\x1b", "\u2028"])
def test_no_unit_names_it(value: str) -> None:
    with pytest.raises(ServiceError) as caught:
        quoted(value)
    assert str(caught.value).isprintable()


def test_a_comment_of_a_configuration_ends_where_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.service import places

    monkeypatch.setenv("XDG_CONFIG_HOME", "/tmp/a\nfolders: [/]\n#")  # noqa: S108 - nothing is written there
    text = settings.new(places.of_this_user(), [])
    assert not any(line.startswith("folders: [/]") for line in text.splitlines())


def printed(script: str) -> tuple[int, str]:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; from daemon import relay; sys.exit(relay.run([sys.executable, '-c', {script!r}], '.'))",
        ],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def test_the_output_of_a_child_is_relayed_line_by_line() -> None:
    script = (
        r"import os; os.write(1, b'a\x1b[31m\r\xff\n'); os.write(2, '\u2028\x85'.encode() + b'\nlast'); os._exit(7)"
    )
    assert printed(script) == (7, "a\\x1b[31m\\r\\xff\n\\u2028\\u0085\nlast\n")


def test_a_child_that_prints_without_end_is_cut_and_ends() -> None:
    script = "import os\nfor _ in range(50): os.write(1, b'x' * 1_000_000)"
    status, said = printed(script)
    assert status == 0
    assert len(said) < (relay.MAX_LINES + 2) * (relay.MAX_LINE_BYTES + 1)
    assert said.endswith("it prints more than is shown here\n")
