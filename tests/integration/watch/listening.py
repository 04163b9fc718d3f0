"""A process that watches a folder: says what it is told as lines of JSON, and does what it is told on its standard input.

It can be stopped, and given limits of its own, without harm to whoever runs the tests.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from daemon.watch.filters import Filters
from daemon.watch.observer import FolderWatch

_saying = threading.Lock()


def say(**what: object) -> None:
    with _saying:
        print(json.dumps(what), flush=True)


class Teller:
    """A listener that says all it hears."""

    def changed(self, path: str, hint: int) -> None:
        say(changed=path, hint=int(hint))

    def rescan(self, directory: str, reason: str) -> None:
        say(rescan=directory, reason=reason)


def main(folder: str, outer_namespace: str) -> None:
    watch = FolderWatch(folder, Filters([".*"], [".jpg"]), Teller())
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        error = None
        try:
            match command:
                case "arm":
                    watch.arm()
                case "disarm":
                    watch.disarm()
                case "retry":
                    watch.watch_refused()
                case "limit":
                    name, _, value = argument.partition(" ")
                    # Outside of a namespace of its own it would be the limit of the whole machine.
                    assert os.readlink("/proc/self/ns/user") != outer_namespace
                    Path("/proc/sys/user", name).write_text(value)
        except OSError as refusal:
            error = refusal.errno
        say(done=command, error=error, watches=watch.watches, refused=watch.refused, overflows=watch.overflows)
    watch.disarm()


if __name__ == "__main__":
    main(*sys.argv[1:])
