"""What the journal of systemd is sent, from a socket that stands in its place."""

from __future__ import annotations

import array
import fcntl
import io
import logging
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.errors import ConfigError
from daemon.logs.journal import SEALS, JournalHandler, PrefixedHandler, leads_to_journal, listens

if TYPE_CHECKING:
    from collections.abc import Iterator


class Journal:
    """Reads entries as systemd-journald does: a datagram, or a sealed file that comes with an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.bind(os.fspath(path))

    def entry(self) -> dict[str, bytes]:
        data, rights, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not rights:
            return parsed(data)
        assert data == b""
        descriptors = array.array("i", rights[0][2])
        with open(descriptors[0], "rb") as file:
            assert fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS) == SEALS
            file.seek(0)
            return parsed(file.read())

    def close(self) -> None:
        self._socket.close()


def parsed(data: bytes) -> dict[str, bytes]:
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (length,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert end == b"\n"
        fields[name.decode("ascii")] = value
        data = rest
    return fields


@pytest.fixture
def journal() -> Iterator[Journal]:
    with tempfile.TemporaryDirectory(prefix="j-") as place:
        journal = Journal(Path(place) / "socket")
        yield journal
        journal.close()


def record(message: str, *args: object, level: int = logging.WARNING, **fields: object) -> logging.LogRecord:
    return logging.getLogger("daemon.indexer").makeRecord(
        "daemon.indexer", level, "/x/indexer.py", 42, message, args, None, "_commit_batch", fields
    )


def sent(journal: Journal, made: logging.LogRecord) -> dict[str, bytes]:
    handler = JournalHandler(logging.NullHandler(), journal.path)
    handler.handle(made)
    handler.close()
    return journal.entry()


def test_an_entry_says_who_what_and_where(journal: Journal) -> None:
    made = record("%s is not indexed", "/p/a.jpg", path="/p/a.jpg", photo=7, model="vgg16", duration_seconds=0.25)
    assert sent(journal, made) == {
        "MESSAGE": b"/p/a.jpg is not indexed",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"lookaliked",
        "CODE_FILE": b"/x/indexer.py",
        "CODE_LINE": b"42",
        "CODE_FUNC": b"_commit_batch",
        "LOGGER": b"daemon.indexer",
        "THREAD_NAME": b"MainThread",
        "LOOKALIKE_PATH": b"/p/a.jpg",
        "LOOKALIKE_PHOTO": b"7",
        "LOOKALIKE_MODEL": b"vgg16",
        "LOOKALIKE_DURATION_SECONDS": b"0.25",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, b"7"), (logging.INFO, b"6"), (logging.WARNING, b"4"), (logging.ERROR, b"3"), (50, b"2")],
)
def test_levels_are_priorities(journal: Journal, level: int, priority: bytes) -> None:
    assert sent(journal, record("x", level=level))["PRIORITY"] == priority


def test_a_path_is_escaped_in_the_words_and_in_its_field(journal: Journal) -> None:
    path = os.fsdecode(b"/p/\xe9\nPRIORITY=0\x1b[31m.jpg")
    entry = sent(journal, record("%s is not indexed", path, path=path))
    assert entry["LOOKALIKE_PATH"] == b"/p/\\xe9\\nPRIORITY=0\\x1b[31m.jpg"
    assert entry["PRIORITY"] == b"4"
    assert b"\x1b" not in entry["MESSAGE"]


def test_a_traceback_is_part_of_the_message(journal: Journal) -> None:
    made = record("it ends", level=logging.ERROR)
    made.exc_info = (ValueError, ValueError("the cause"), None)
    assert sent(journal, made)["MESSAGE"] == b"it ends\n  ValueError: the cause"


def test_what_is_too_large_for_a_datagram_is_handed_over_in_a_sealed_file(journal: Journal) -> None:
    long = "x" * 3_000_000
    entry = sent(journal, record(long, path="/p/a.jpg"))
    assert entry["MESSAGE"] == long.encode()
    assert entry["LOOKALIKE_PATH"] == b"/p/a.jpg"


def test_a_journal_that_was_started_again_gets_what_comes_then(journal: Journal) -> None:
    said = io.StringIO()
    handler = JournalHandler(PrefixedHandler(said), journal.path)
    handler.handle(record("before"))
    assert journal.entry()["MESSAGE"] == b"before"
    journal.close()
    journal.path.unlink()
    handler.handle(record("while it is away"))
    again = Journal(journal.path)
    handler.handle(record("after"))
    assert again.entry()["MESSAGE"] == b"after"
    assert said.getvalue() == "<4>while it is away\n"
    again.close()
    handler.close()


def test_lines_for_a_journal_that_reads_stderr_have_their_priority_each() -> None:
    said = io.StringIO()
    PrefixedHandler(said).handle(record("%s", ConfigError("a", ["b\x1b[31m\n", "c"]), level=logging.ERROR))
    assert said.getvalue() == "<3>a cannot be used:\n<3>    b\\x1b[31m\\n\n<3>    c\n"


def test_a_stream_leads_to_the_journal_when_the_environment_names_it() -> None:
    with tempfile.TemporaryFile() as file:
        found = os.fstat(file.fileno())
        assert leads_to_journal(file.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        # A shell of a service hands the variable on to commands whose output goes elsewhere.
        assert not leads_to_journal(file.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not leads_to_journal(file.fileno(), {})
    assert not leads_to_journal(-1, {"JOURNAL_STREAM": "1:2"})


def test_a_journal_listens_or_does_not(journal: Journal) -> None:
    assert listens(journal.path)
    journal.close()
    assert not listens(journal.path)
    assert not listens(journal.path.with_name("none"))
