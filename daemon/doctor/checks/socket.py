"""The socket that the daemon answers on: there, yours to use, and answered by a daemon of this version."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

import daemon
from daemon.api.listening import answers
from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.doctor.users import User, group_name
from daemon.paths import SOCKET_PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context


def check(context: Context) -> Iterator[Finding]:
    path, place = context.socket, shlex.quote(str(context.socket))
    if (length := len(os.fsencode(path))) > SOCKET_PATH_BYTES:
        yield problem(
            f"the path of a socket has at most {SOCKET_PATH_BYTES} bytes, and {path} has {length}",
            "export LOOKALIKE_SOCKET=/run/user/$(id -u)/lookalike.sock  # or socket in the configuration",
        )
        return
    try:
        found = os.stat(path)
    except FileNotFoundError:
        yield note(f"no daemon is running: there is no {path}", "lookaliked run")
        return
    except OSError as error:
        yield _closed(context, (error.strerror or str(error)).lower())
        return
    if not stat.S_ISSOCK(found.st_mode):
        yield problem(f"{path} is no socket, and in the way of one; move it away", f"mv {place} {place}.old")
        return
    yield from _mode(context, found)
    yield from _answer(context, found)


def _mode(context: Context, found: os.stat_result) -> Iterator[Finding]:
    if found.st_mode & stat.S_IWOTH:
        yield problem(
            f"every user of this machine may ask on {context.socket} (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod o-rw {shlex.quote(str(context.socket))}",
        )


def _answer(context: Context, found: os.stat_result) -> Iterator[Finding]:
    path = context.socket
    owner = User.of(found.st_uid).name
    if context.status is None:
        if not os.access(path, os.W_OK):
            yield _closed(
                context, f"it belongs to {owner} and {group_name(found.st_gid)}, mode {stat.S_IMODE(found.st_mode):04o}"
            )
        elif not answers(path):
            yield warning(
                f"nobody listens on {path}: it was left by a daemon that was killed, and the next one takes its place",
                "lookaliked run",
            )
        else:
            yield problem(f"the daemon does not answer: {context.heard.refusal}", "lookalike status --timeout 60")
        return
    version = context.status["version"]
    if version != daemon.__version__:
        yield warning(
            f"the daemon that answers is lookaliked {version}, and this is lookalike {daemon.__version__}; restart it",
            "systemctl --user restart lookaliked  # or stop it with Ctrl-C, and start it",
        )
    else:
        yield ok(f"lookaliked {version} of {owner} answers on {path}")


def _closed(context: Context, why: str) -> Finding:
    owner = context.user.name
    return problem(
        f"you may not ask on {context.socket}: {why}",
        f"sudo -u {owner} lookalike doctor  # as the daemon's user; or join the group that api.group names",
    )
