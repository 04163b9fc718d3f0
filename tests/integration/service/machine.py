"""A machine of its own for the tests of the service: systemd as process 1 of namespaces, with lookalike in /opt.

Where no systemd runs, as in a container that builds, this is how its units are tried for real all the same: the kernel's namespaces,
seccomp filters and mounts are those of any machine. Only limits of memory and CPU are not enforced where the kernel's controllers
are bound elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
BOOT = Path(__file__).with_name("boot.sh")
PREFIX = Path("/opt/lookalike")
SOURCE = Path("/opt/source")
SYSTEMD = "/lib/systemd/systemd"
BOOT_SECONDS = 60.0
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def obstacle() -> str:
    """Return why no machine can be booted here, or an empty string."""
    needed = ("unshare", "nsenter", "setpriv", "systemctl", "dbus-daemon", SYSTEMD)
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if sys.prefix == sys.base_prefix:
        return "lookalike is not installed in an environment of its own"
    if _cgroup_root() is None:
        return "no cgroup2 hierarchy can be written"
    refused = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, check=False).returncode
    return "the kernel gives this root no namespaces" if refused else ""


def _cgroup_root() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and os.access(point := fields.split(" ")[4], os.W_OK):
            return Path(point)
    return None


class Machine:
    """A booted systemd; `run` executes in it as root, `place` is a path of it seen from outside.

    It is this machine's own systemd, or what is unpacked in the directory `newer`.
    """

    def __init__(self, newer: Path | None = None) -> None:
        self._newer = [] if newer is None else [newer]
        self._directory = Path(tempfile.mkdtemp(prefix="machine-"))
        cgroup_root = _cgroup_root()
        assert cgroup_root is not None
        self._cgroup = cgroup_root / f"lookalike-test-{os.getpid()}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.version = 0

    def boot(self) -> None:
        self._cgroup.mkdir()
        script = 'echo $$ > "$0/cgroup.procs"; exec unshare "$@"'
        places = (BOOT, self._directory, sys.prefix, ROOT, sys.base_prefix, *self._newer)
        arguments = [*NAMESPACES, "--fork", "--kill-child", "bash", *map(str, places)]
        with (self._directory.with_suffix(".log")).open("wb") as log:
            self._outer = subprocess.Popen(
                ["bash", "-c", script, str(self._cgroup), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._is_up():
            said = self._directory.with_suffix(".log").read_text()
            assert self._outer.poll() is None, f"systemd did not boot: {said}"
            assert time.monotonic() < deadline, f"systemd did not boot in time: {said}"
            time.sleep(0.1)
        self.version = int(self.run("systemctl", "--version").stdout.split()[1])
        self._move_in()

    def shut_down(self) -> None:
        """End everything in it at once; its files go with its mounts."""
        if self._outer is not None:
            if self._pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._outer.kill()
            self._outer.wait()
        deadline = time.monotonic() + BOOT_SECONDS
        for directory in [*sorted(self._cgroup.rglob("*/"), reverse=True), self._cgroup]:
            while directory.is_dir():
                try:
                    directory.rmdir()
                except OSError:
                    # The kernel is still ending what was in it.
                    assert time.monotonic() < deadline, f"{directory} is still in use"
                    time.sleep(0.05)
        self._directory.with_suffix(".log").unlink(missing_ok=True)
        self._directory.rmdir()

    def place(self, path: str) -> Path:
        """Return where a path of the machine is seen from outside."""
        return Path(f"/proc/{self._pid}/root{path}")

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        user: str = "root",
        seconds: float = 100,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as one of its users; `check` asserts that it succeeds."""
        home = {"root": "/root"}.get(user, f"/home/{user}")
        environment = [f"PATH={PREFIX}/bin:{SEARCH_PATH}", f"HOME={home}", "LANG=C.UTF-8", "TERM=dumb"]
        if user != "root":
            uid = self.run("id", "-u", user).stdout.strip()
            environment += [
                f"XDG_RUNTIME_DIR=/run/user/{uid}",
                f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus",
            ]
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        done = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--wd=/",
             "--", "env", "-i", *environment, *become, *command],
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def write(self, path: str, text: str) -> None:
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def journal(self, unit: str, *options: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *options).stdout

    def show(self, unit: str, *properties: str, user: str = "root") -> dict[str, str]:
        """Return what systemd knows of a unit, of the user's own service manager where one is named."""
        whose = [] if user == "root" else ["--user"]
        wanted = itertools.chain.from_iterable(("--property", name) for name in properties)
        lines = self.run("systemctl", *whose, "show", unit, *wanted, user=user).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _is_up(self) -> bool:
        if not self._pid:
            assert self._outer is not None
            children = psutil.Process(self._outer.pid).children()
            if not children or Path(children[0].exe()).name != Path(SYSTEMD).name:
                return False
            self._pid = children[0].pid
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _move_in(self) -> None:
        """Make the environment that runs the tests one that lies in /opt: its scripts and its editable source name their places."""
        site = self.run(PREFIX / "bin/python3", "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
        scripts = ("lookalike", "lookaliked")
        self.run("sed", "-i", f"s#{sys.prefix}/bin#{PREFIX}/bin#", *(PREFIX / "bin" / name for name in scripts))
        self.run("sh", "-c", f"sed -i 's#^{ROOT}$#{SOURCE}#' {site}/*.pth")
