"""A machine to be examined: directories of its own, a configuration that names them, and a /proc whose limits are the test's."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.doctor import Heard, Patient
from daemon.doctor.context import assembled
from daemon.doctor.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.doctor.finding import Finding

NOBODY = Heard(None, "nobody answers")


@dataclass
class Clinic:
    """Runs single checks."""

    root: Path
    machine: Machine = field(default_factory=Machine)
    status: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        return self.root / "photos"

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def file(self) -> Path:
        return self.root / "lookalike.yaml"

    @property
    def socket(self) -> Path:
        return self.root / "run" / "lookalike.sock"

    def configure(self, more: str = "") -> None:
        self.file.write_text(
            f"data_dir: {self.data_dir}\ncache_dir: {self.root / 'cache'}\nruntime_dir: {self.root / 'run'}\n"
            f"models: [efficientnet-lite0]\n{more}"
        )

    def limits(self, **limits: int) -> None:
        """Let the kernel have these limits of inotify."""
        directory = self.root / "proc" / "sys" / "fs" / "inotify"
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in ({"max_user_watches": 10_000, "max_user_instances": 128} | limits).items():
            (directory / name).write_text(f"{value}\n")
        self.machine = Machine(self.root)

    def prepared(self, check: str, **patient: Any) -> Callable[[], list[Finding]]:
        """Return what looks, with all that has to be read of this installation read."""
        heard = NOBODY if self.status is None else Heard(self.status)
        wanted: dict[str, Any] = {"file": self.file, "folders": (self.folder,), "machine": self.machine} | patient
        context = assembled(Patient(lambda _: heard, **wanted))
        module = importlib.import_module(f"daemon.doctor.checks.{check}")
        return lambda: list(module.check(context))

    def look(self, check: str, **patient: Any) -> list[Finding]:
        return self.prepared(check, **patient)()

    def worst(self, check: str, **patient: Any) -> Finding:
        """Return the finding that matters most."""
        levels = ("ok", "note", "warning", "problem")
        return max(self.look(check, **patient), key=lambda one: levels.index(one.level))


@pytest.fixture
def clinic() -> Iterator[Clinic]:
    # A socket's path has 107 bytes, which pytest's own directories can exceed.
    clinic = Clinic(Path(tempfile.mkdtemp(prefix="doctor-")))
    clinic.folder.mkdir()
    clinic.configure()
    yield clinic
    shutil.rmtree(clinic.root, ignore_errors=True)


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], Any]], Any]:
    """Return what a function gives in a process of a user without rights; for tests marked `needs_root`."""

    def run(function: Callable[[], Any]) -> Any:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.write(writing, json.dumps(function()).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as answer:
            said = answer.read()
        assert os.waitpid(child, 0)[1] == 0
        return json.loads(said)

    return run
