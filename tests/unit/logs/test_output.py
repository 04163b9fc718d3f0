"""Which form log lines take, and what becomes of those before."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from rich.console import Console

from daemon.logs import output

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Leave pytest's own handlers as they were."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = before
    logger.setLevel(level)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_journal_lines_are_text(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert output.begin("auto", console) == "text"
    logging.getLogger("t").info("all is well")
    logging.getLogger("t").debug("nobody asks")
    assert said(console).endswith(" all is well\n")
    assert "nobody" not in said(console)


def test_json_is_written_on_request(console: Console) -> None:
    assert output.begin("json", console, level="debug") == "json"
    logging.getLogger("t").debug("somebody asks")
    assert json.loads(said(console))["message"] == "somebody asks"


@pytest.mark.parametrize("wanted", ["auto", "journal"])
def test_a_service_writes_to_the_journal(
    console: Console, monkeypatch: pytest.MonkeyPatch, wanted: Literal["auto", "journal"]
) -> None:
    if wanted == "auto":
        found = os.fstat(output.STDERR)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with (
        tempfile.TemporaryDirectory(prefix="j-") as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
    ):
        path = Path(place) / "socket"
        journal.bind(os.fspath(path))
        journal.settimeout(5)
        assert output.begin(wanted, console, journal_socket=path) == "journal"
        logging.getLogger("t").warning("look here")
        assert b"MESSAGE=look here\nPRIORITY=4\n" in journal.recv(65536)
    assert said(console) == ""


def test_where_no_journal_listens_lines_have_their_priority_before_them(console: Console, tmp_path: Path) -> None:
    assert output.begin("journal", console, journal_socket=tmp_path / "none") == "journal"
    logging.getLogger("t").warning("look here")
    assert said(console) == "<4>look here\n"


def test_beginning_again_loses_nothing_that_is_held(console: Console) -> None:
    output.begin("json", console)
    for n in range(9):
        logging.getLogger("t").warning("failure of %s", f"{n}.jpg")
    output.begin("text", console)
    assert said(console).count("\n") == 6
    assert "4 more" in said(console)
    assert len(logging.getLogger().handlers) == 1
