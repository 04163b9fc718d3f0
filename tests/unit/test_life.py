"""Signals while the daemon makes its models ready, and after that."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from daemon import life, paths
from daemon.catalogue.catalogue import Catalogue
from daemon.config import Config
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[life.Daemon]:
    settings = Config(folders=[], data_dir=tmp_path)
    catalogue = Catalogue(tmp_path / "models", paths.shipped("models"))
    daemon = life.Daemon(settings, catalogue, Console(), lambda: settings)
    before = signal.signal(signal.SIGTERM, daemon._receive)
    yield daemon
    signal.signal(signal.SIGTERM, before)


def end(*_: Any) -> list[Any]:
    os.kill(os.getpid(), signal.SIGTERM)
    return []


def refuse(*_: Any) -> list[Any]:
    raise ModelError("m", "it cannot be used")


def test_a_signal_interrupts_what_makes_the_models_ready_and_nothing_after_it(
    daemon: life.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_prepare", end)
    for _ in range(2):
        # The second time, a signal waits already.
        with pytest.raises(life._GivenUp):
            daemon._made_ready()
        end()


def test_a_signal_after_a_model_was_refused_interrupts_nothing(
    daemon: life.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_prepare", refuse)
    with pytest.raises(ModelError):
        daemon._made_ready()
    end()
