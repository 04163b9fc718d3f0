"""The configuration: everything that is wrong with it, whatever else is."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, note, ok, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context


def check(context: Context) -> Iterator[Finding]:
    if context.refusal:
        again = (f"lookaliked check-config {shlex.quote(str(context.file))}  # once it is corrected",)
        for complaint in context.refusal.problems:
            yield problem(f"{context.refusal.source}: {complaint}", *(again if context.file else ()))
        return
    yield ok(f"{context.file} is good" if context.file else "there is no configuration file, so every default holds")
    if context.status and context.data_dir != context.settings.data_dir:
        yield note(
            f"the daemon that answers works on {context.data_dir}, and this configuration says {context.settings.data_dir}; "
            "give --config the file that it was started with"
        )
