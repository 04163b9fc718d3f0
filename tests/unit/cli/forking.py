"""The command as processes that are forked from one which has imported it: starting an interpreter costs more than most tests do.

Run as a program, this is that process. It reads requests from the socket at descriptor 0: JSON (arguments, directory, environment),
with the three standard streams. For each it forks, and answers with the identifier of the process, and with its status once it ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NUMBER = struct.Struct("=q")
TIMEOUT_SECONDS = 60


class Forking:
    """Runs the command, one process at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__],
                stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            )  # fmt: skip

    def close(self) -> None:
        self._socket.close()
        said = self._process.communicate(timeout=TIMEOUT_SECONDS)
        assert said == (b"", b""), said
        assert self._process.returncode == 0

    def run(
        self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str], stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command, with pipes for its standard streams."""
        request = json.dumps([["lookalike", *arguments], str(directory), dict(environment)]).encode("ascii")
        (input_end, feed), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
        theirs = [input_end, out_end, err_end]
        socket.send_fds(self._socket, [NUMBER.pack(len(request))], theirs)
        self._socket.sendall(request)
        for end in theirs:
            os.close(end)
        watchdog = threading.Timer(TIMEOUT_SECONDS, os.kill, (_number(self._socket), signal.SIGKILL))
        watchdog.start()
        with ThreadPoolExecutor(3) as pool:
            pool.submit(_write, feed, stdin)
            output, errors = pool.submit(_read, out), pool.submit(_read, err)
        status = os.waitstatus_to_exitcode(_number(self._socket))
        watchdog.cancel()
        return subprocess.CompletedProcess(arguments, status, output.result(), errors.result())


def _write(end: int, data: bytes) -> None:
    try:
        with open(end, "wb") as file:
            file.write(data)
    except BrokenPipeError:
        pass


def _read(end: int) -> bytes:
    with open(end, "rb") as file:
        return file.read()


def _number(connection: socket.socket) -> int:
    number: int = NUMBER.unpack(connection.recv(NUMBER.size, socket.MSG_WAITALL))[0]
    return number


def _serve(connection: socket.socket) -> None:
    """Fork for each request; returns in the processes that are to be the command, and nowhere else."""
    while True:
        head, streams, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
        if not head:
            connection.close()
            sys.exit()
        request = json.loads(connection.recv(NUMBER.unpack(head)[0], socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            break
        for stream in streams:
            os.close(stream)
        connection.sendall(NUMBER.pack(child))
        connection.sendall(NUMBER.pack(os.waitpid(child, 0)[1]))
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv, directory, environment = request
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    # What commands import when they are called is there already.
    import cli.connection  # noqa: F401 - to be there
    import daemon.catalogue.described  # noqa: F401 - as above
    from cli.main import main

    # A collection in a copy would write to every object, and so copy every page.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=os.dup(0)))
    main()
