"""A system call filter for a process that computes: it may use memory, clocks and the socket it has, and nothing else.

What is not allowed fails with EPERM, so that a library that tries it says so instead of dying. seccomp(2) and linux/bpf_common.h have the
constants; the numbers of the calls are those of asm/unistd_64.h (x86-64) and asm-generic/unistd.h (AArch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Literal, NamedTuple

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Where struct seccomp_data has the number, the architecture and the lower half of an argument, little-endian.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
# Numbers from here on are those of the x32 interface on x86-64.
_X32 = 0x40000000

CLONE_THREAD = 0x00010000
PROT_EXEC = 4
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

Starts = Literal["processes", "threads", "nothing"]
"""A filter lets a process start copies of itself, threads, or neither."""


class Refused(Exception):  # noqa: N818 - an event, not an error
    """The kernel takes no filter, or this machine is one whose numbers are not known here."""


class _Machine(NamedTuple):
    audit: int
    """AUDIT_ARCH_* of linux/audit.h."""
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}

_CALLS = {
    # The socket to the daemon, and statm, which is open.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "recvfrom": (45, 207), "sendto": (44, 206), "poll": (7, None), "ppoll": (271, 73),
    "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    # Memory.
    "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214), "madvise": (28, 233),
    # Locks, also of those who have no threads.
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "gettid": (186, 178), "getpid": (39, 172),
    # Signals to itself, among them the alarm that ends what takes too long.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "setitimer": (38, 103), "restart_syscall": (219, 128),
    # Clocks, and what the machine is.
    "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "getrandom": (318, 278), "getrusage": (98, 165), "sysinfo": (99, 179), "uname": (63, 160),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_PARENTS_CALLS = {"wait4": (61, 260), "getppid": (110, 173)}
_CLONE, _CLONE3, _MMAP, _MPROTECT, _PRCTL, _TGKILL = (56, 220), (435, 435), (9, 222), (10, 226), (157, 167), (234, 131)


def allow_computing_alone(libc: ctypes.CDLL, starts: Starts = "nothing") -> None:
    """Apply the filter to this process, whose privileges can no longer grow; Refused where that cannot be.

    With "processes", its copies may apply a stricter filter to themselves. A filter never takes back an earlier one.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise Refused
    program = _program(machine, starts)
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog of linux/filter.h: how many instructions, and where they are.
    wanted = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(wanted), 0, 0):
        raise Refused


def _program(machine: _Machine, starts: Starts) -> bytes:
    """Return the filter as instructions of classic BPF: 16 bits for the operation, two jumps of 8 bits, and 32 bits of value."""
    column = machine.column
    deny, allow = _return(_ERRNO | errno.EPERM), _return(_ALLOW)
    program = [
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_IF_EQUAL, machine.audit, 1, 0), deny,
        _statement(_LOAD, _NUMBER),
        _jump(_IF_AT_LEAST, _X32, 0, 1), deny,
    ]  # fmt: skip
    is_parent = starts == "processes"
    for numbers in (_CALLS | _PARENTS_CALLS if is_parent else _CALLS).values():
        if numbers[column] is not None:
            program += [_jump(_IF_EQUAL, numbers[column], 0, 1), allow]
    # glibc then takes clone, whose flags can be looked at.
    program += [_jump(_IF_EQUAL, _CLONE3[column], 0, 1), _return(_ERRNO | errno.ENOSYS)]
    checks = [
        # No memory that can be run is made: what there is to run is loaded.
        (_MMAP, 2, _IF_ANY_BIT, PROT_EXEC, False),
        (_MPROTECT, 2, _IF_ANY_BIT, PROT_EXEC, False),
    ]
    if starts == "threads":
        checks.append((_CLONE, 0, _IF_ANY_BIT, CLONE_THREAD, True))
    if is_parent:
        # Its copies end with it, and name themselves when they send themselves a signal.
        allowed = (_CLONE[column], _PRCTL[column], _TGKILL[column])
        program += [part for number in allowed for part in (_jump(_IF_EQUAL, number, 0, 1), allow)]
    else:
        # abort() sends its signal so; to nobody else.
        checks += [(_PRCTL, 0, _IF_EQUAL, PR_SET_NAME, True), (_TGKILL, 0, _IF_EQUAL, os.getpid(), True)]
    for call, argument, operation, value, fits in checks:
        then, otherwise = (allow, deny) if fits else (deny, allow)
        program += [
            _jump(_IF_EQUAL, call[column], 0, 4),
            _statement(_LOAD, _ARGUMENTS + 8 * argument),
            _jump(operation, value, 0, 1), then, otherwise,
        ]  # fmt: skip
    return b"".join([*program, deny])


def _statement(operation: int, value: int) -> bytes:
    return struct.pack("<HBBI", operation, 0, 0, value)


def _jump(operation: int, value: int | None, met: int, unmet: int) -> bytes:
    return struct.pack("<HBBI", operation, met, unmet, value)


def _return(value: int) -> bytes:
    return _statement(_RETURN, value)
