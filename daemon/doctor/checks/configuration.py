"""The configuration: everything that is wrong with it, whatever else is."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, note, ok, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context


def check(context: Context) -> Iterator[Finding]:
    if context.refusal:
        for complaint in context.refusal.problems:
            yield problem(f"{context.refusal.source}: {complaint}", *_mend(context))
        return
    yield ok(f"{context.file} is good" if context.file else "there is no configuration file, so every default holds")
    if context.status and context.data_dir != context.settings.data_dir:
        yield note(
            f"the daemon that answers works on {context.data_dir}, and this configuration says {context.settings.data_dir}; "
            "give --config the file that it was started with"
        )


def _mend(context: Context) -> tuple[str, ...]:
    file = context.file
    if file is None:
        return ()
    if os.path.exists(file) and not os.access(file, os.R_OK):
        return (context.as_root,)
    return (f"lookaliked check-config {shlex.quote(str(file))}  # once it is corrected",)
