from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from cli import progress
from cli.progress import Activity, Downloads

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Downloads() as downloads:
        downloads("model.onnx", 1_000_000, 9_000_000)
        monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
        downloads("model.onnx", 2_000_000, 9_000_000)
        downloads("model.onnx", 2_500_000, None)

    assert capsys.readouterr().err == "model.onnx: 2.0 of 9.0 MB\nmodel.onnx: 2.5 MB\n"


def test_a_name_steers_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with Downloads() as downloads:
        downloads("m\x1b]0;x\x07\n.onnx", 4_500_000, 9_000_000, "\x1b]1;y\x07")

    shown = terminal.getvalue()
    assert r"m\x1b]0;x\x07\n.onnx" in shown
    assert "\x1b]" not in shown


def test_at_a_terminal_a_bar_does(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with Downloads() as downloads:
        downloads("[bold]model.onnx", 4_500_000, 9_000_000)
        downloads.say("the next file")
        downloads("text.onnx", 1, None)

    shown = terminal.getvalue()
    assert "[bold]model.onnx" in shown
    assert "4.5/9.0 MB" in shown
    assert "the next file\n" in shown
    assert "text.onnx" in shown


def test_what_is_done_now_is_shown_at_a_terminal_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Activity() as silent:
        silent("m: loading it")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with Activity() as activity:
        activity("m: loading it")
        activity("[bold]m: measuring\n")

    assert "[bold]m: measuring\\n" in terminal.getvalue()
