"""Files and directories beneath a folder: reached from the folder's own descriptor, and through no symbolic link below it.

Somebody who may write in a folder may put a link in the place of a directory at any moment. So a path below a folder is never given to the
kernel as a whole: openat2(2) is told to follow no link and to stay beneath, or else each directory is opened by itself. The path of the
folder is the user's own choice, and may lead through links. File systems that are mounted in a folder belong to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from daemon import canonical
from daemon.long_paths import MAX_BYTES, PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OPENAT2 = 437
"""The number of the call on every architecture: linux/asm-generic/unistd.h."""
_RESOLVE = 0x02 | 0x04 | 0x08
"""RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS and RESOLVE_BENEATH of linux/openat2.h."""
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_IS_A_LINK = frozenset({errno.ELOOP, errno.EXDEV})
_IS_REFUSED = frozenset({errno.ENOSYS, errno.EPERM})
"""An older kernel, or a filter of system calls that does not know this one."""


class _How(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def opened(folder: str | bytes, path: str | bytes, flags: int) -> int:
    """Return a descriptor of what is at `path`, which is `folder` or lies beneath it. The caller closes it.

    Raises OSError, NotADirectoryError where a link is on the way or at its end.
    """
    top, raw = os.fsencode(folder), os.fsencode(path)
    relative = _relative(top, raw)
    if not relative:
        return os.open(top, flags | os.O_CLOEXEC)
    place = os.open(top, _PLACE)
    try:
        return _opened(place, relative, flags)
    finally:
        os.close(place)


def lstat(folder: str | bytes, path: str | bytes) -> os.stat_result:
    """Return what os.lstat() does of `path`, which lies beneath `folder`, however long the path is.

    Raises OSError as os.lstat() does, NotADirectoryError where a link is on the way.
    """
    top, raw = os.fsencode(folder), os.fsencode(path)
    if not _relative(top, raw):
        return os.stat(top)
    directory, _, name = raw.rpartition(b"/")
    above = opened(top, directory or b"/", _PLACE)
    try:
        return os.lstat(name, dir_fd=above)
    finally:
        os.close(above)


def is_there(folder: str | bytes, path: str | bytes) -> bool:
    """Return whether anything is at `path`, a link too; False where the system does not say."""
    with suppress(OSError):
        lstat(folder, path)
        return True
    return False


def is_directory(folder: str | bytes, path: str | bytes) -> bool:
    """Return whether a directory is at `path`; not a link to one, unless it is the folder itself."""
    with suppress(OSError):
        return stat.S_ISDIR(lstat(folder, path).st_mode)
    return False


def listing(folder: str | bytes, directory: str | bytes) -> int:
    """Return a descriptor of a directory, for os.scandir() and for what is opened in it. The caller closes it."""
    return opened(folder, directory, _LISTING)


def listing_in(place: int, name: bytes) -> int:
    """Return such a descriptor of the directory `name` in the one that is open as `place`."""
    return os.open(name, _LISTING | os.O_NOFOLLOW, dir_fd=place)


def directories(folder: str, path: str) -> Iterator[tuple[int, str]]:
    """Yield each directory from `folder` down to `path` with a descriptor that is open for as long as it is dealt with.

    The name is empty, but where the next one is no directory, or none that the daemon may enter: then that name comes with the
    descriptor of the directory above it, once more and at the end.
    """
    names = [name for name in os.fsdecode(_relative(os.fsencode(folder), os.fsencode(path))).split("/") if name]
    try:
        place = os.open(folder, _PLACE)
    except OSError:
        return
    try:
        yield place, ""
        for name in names:
            try:
                below = os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=place)
            except OSError:
                yield place, name
                return
            os.close(place)
            place = below
            yield place, ""
    finally:
        os.close(place)


def walk(folder: str, top: str = "") -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what os.walk() does of `top`, by default all of `folder`: each directory, the names of those in it, and all other names.

    However deep the tree is, this takes one descriptor and no recursion. Directories are left out that cannot be read, and those
    whose paths are longer than the system takes. Names may be taken out of the list of directories before the next step.
    """
    waiting = [top or folder]
    while waiting:
        directory = waiting.pop()
        names: list[str] = []
        others: list[str] = []
        try:
            with _descriptor(listing(folder, directory)) as place, os.scandir(place) as entries:
                for entry in entries:
                    (names if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        except OSError:
            continue
        yield directory, names, others
        below = (os.path.join(directory, name) for name in reversed(names))
        waiting += [one for one in below if len(os.fsencode(one)) <= MAX_BYTES]


class Disk:
    """The watched folders as they are on the disk at each moment.

    Nothing stays open between two calls, so that a disk can be unmounted. A path that lies in no folder, or is not in its one form, is not
    there, whatever the disk says.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = tuple(folders)

    def folder_of(self, path: str) -> str | None:
        """Return the folder that `path` is or lies in."""
        if canonical.fault(path):
            return None
        return next((one for one in self._folders if path == one or path.startswith(one.rstrip("/") + "/")), None)

    def opened(self, path: str, flags: int) -> int:
        return opened(self._folder_of(path), path, flags)

    def lstat(self, path: str) -> os.stat_result:
        return lstat(self._folder_of(path), path)

    def is_there(self, path: str) -> bool:
        folder = self.folder_of(path)
        return folder is not None and is_there(folder, path)

    def is_directory(self, path: str) -> bool:
        folder = self.folder_of(path)
        return folder is not None and is_directory(folder, path)

    def _folder_of(self, path: str) -> str:
        folder = self.folder_of(path)
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return folder


@contextmanager
def _descriptor(number: int) -> Iterator[int]:
    try:
        yield number
    finally:
        os.close(number)


def _relative(folder: bytes, path: bytes) -> bytes:
    if path == folder:
        return b""
    prefix = folder.rstrip(b"/") + b"/"
    if not path.startswith(prefix) or b"\0" in path:
        raise FileNotFoundError(errno.ENOENT, f"not beneath {os.fsdecode(folder)}", os.fsdecode(path))
    return path[len(prefix) :]


def _opened(place: int, relative: bytes, flags: int) -> int:
    """Open what lies beneath the directory that is open as `place`, a piece of the path at a time where it is long."""
    if len(relative) <= PIECE_BYTES:
        return _opened_at_once(place, relative, flags)
    cut = relative.rfind(b"/", 0, PIECE_BYTES)
    if cut < 0:
        # One name of such a length: the kernel says so.
        return _opened_at_once(place, relative, flags)
    below = _opened_at_once(place, relative[:cut], _PLACE)
    rest = relative[cut + 1 :]
    try:
        while len(rest) > PIECE_BYTES and (cut := rest.rfind(b"/", 0, PIECE_BYTES)) >= 0:
            further = _opened_at_once(below, rest[:cut], _PLACE)
            os.close(below)
            below, rest = further, rest[cut + 1 :]
        return _opened_at_once(below, rest, flags)
    finally:
        os.close(below)


def _opened_at_once(place: int, relative: bytes, flags: int) -> int:
    by = _by_the_kernel if (_does or _asked())[0] else _by_hand
    try:
        return by(place, relative, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _IS_A_LINK:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(relative)) from error
        raise


def _by_the_kernel(place: int, relative: bytes, flags: int) -> int:
    how = _hows.get(flags)
    if how is None:
        how = _hows[flags] = _How(flags, 0, _RESOLVE)
    while (number := _syscall(_OPENAT2, place, relative, how, ctypes.sizeof(how))) < 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code), os.fsdecode(relative))
    return int(number)


def _by_hand(place: int, relative: bytes, flags: int) -> int:
    *above, name = relative.split(b"/")
    at = place
    try:
        for part in above:
            below = os.open(part, _PLACE | os.O_NOFOLLOW, dir_fd=at)
            if at != place:
                os.close(at)
            at = below
        return os.open(name, flags, dir_fd=at)
    finally:
        if at != place:
            os.close(at)


_hows: dict[int, _How] = {}
"""Arguments by their flags. The kernel only reads them, so that all threads may share them."""
_does: list[bool] = []
"""Whether openat2(2) may be called here, once that is known."""


def _asked() -> list[bool]:
    if _does:
        return _does
    with _descriptor(os.open("/", _PLACE)) as root:
        try:
            os.close(_by_the_kernel(root, b".", _PLACE))
            _does.append(True)
        except OSError as error:
            if error.errno not in _IS_REFUSED:
                raise
            _does.append(False)
    return _does
