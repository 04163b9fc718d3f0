"""What a decoder gives up before it reads its first photo: files, the network, other processes, and memory without end.

Everything here is for the process that calls it and for good. Where the kernel lacks one of the three, the others remain.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

from daemon.encode.decoding import seccomp

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
"""prctl(2)."""

# landlock(7): the numbers are the same on every architecture.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_RULESET_VERSION = 1
# From which version of the kernel's interface on each right can be denied: landlock(7), "LANDLOCK_ACCESS_FS".
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_BIND_AND_CONNECT_TCP = 3
_NETWORK_FROM = 4
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_SCOPES_FROM = 6

_STATM = "/proc/self/statm"


class Refused(Exception):  # noqa: N818 - an event, not an error
    """The kernel does not know or not allow one kind of confinement."""


def confine(memory_bytes: int, starts: seccomp.Starts = "nothing") -> tuple[str, ...]:
    """Confine this process, which may grow by `memory_bytes`, and start what `starts` says.

    Returns by what it is confined: of "limits", "landlock", "seccomp".
    """
    limit_resources(memory_bytes)
    by = ["limits"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return tuple(by)
    with contextlib.suppress(Refused):
        _deny_files(libc)
        by.append("landlock")
    with contextlib.suppress(seccomp.Refused):
        seccomp.allow_computing_alone(libc, starts)
        by.append("seccomp")
    return tuple(by)


def confine_further(parent: int, starts: seccomp.Starts) -> None:
    """Confine this copy of the process `parent`, which is confined: it starts no copies, and ends with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(seccomp.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent ended before this copy asked the kernel to end it too.
        os._exit(0)
    with contextlib.suppress(seccomp.Refused):
        seccomp.allow_computing_alone(libc, starts)


def limit_resources(memory_bytes: int) -> None:
    """Let this process grow by so much, write no file, and leave no dump of somebody's photo behind."""
    with open(_STATM, encoding="ascii") as statm:
        size = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for limit, most in (
        (resource.RLIMIT_AS, size + memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        # What is limited more strictly already stays so.
        _, hard = resource.getrlimit(limit)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, allowed))


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr of linux/landlock.h."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def _deny_files(libc: ctypes.CDLL) -> None:
    """Deny every access to the file system, and TCP, as far as this kernel can; no rule allows anything."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION)
    if version < 1:
        raise Refused
    ruleset = _Ruleset(
        sum(rights for since, rights in _FILE_RIGHTS.items() if version >= since),
        _BIND_AND_CONNECT_TCP if version >= _NETWORK_FROM else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPES_FROM else 0,
    )
    # An older kernel refuses a longer structure than it knows where what it does not know is not 0.
    descriptor = libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    if descriptor < 0:
        raise Refused
    try:
        if libc.syscall(_RESTRICT_SELF, descriptor, 0):
            raise Refused
    finally:
        os.close(descriptor)
