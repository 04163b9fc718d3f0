"""Models: what a model is fed changes from one life of the daemon to the next, and each life is cut short."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon import paths
from tests.drills.crash import STRIKES, Crash, tell
from tests.drills.installation import DAEMON

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.drills.crash import Round
    from tests.drills.installation import Installation
    from tests.drills.workload import Workload

PADDINGS = (16, 32, 48)
"""Each makes another version of the model."""


class Rebuild(Crash):
    """The crash drill on a library with two models, of which the second is another version after most strikes."""

    def _configure(self, installation: Installation, random: Random) -> None:
        with installation.configuration.open("a", encoding="utf-8") as file:
            file.write(f"models: [efficientnet-lite0, {installation.root / 'changing.yaml'}]\n")
        _change(installation, random)

    def _choose(self, random: Random) -> tuple[str, ...]:
        return random.choice([strike for strike in STRIKES if DAEMON in strike])

    def _while_down(self, installation: Installation, one: Round, workload: Workload, random: Random) -> None:
        _change(installation, random)
        super()._while_down(installation, one, workload, random)


def _change(installation: Installation, random: Random) -> None:
    """Write a version of the second model: the default one, fed another part of a photo."""
    text = (paths.shipped("models") / "efficientnet-lite0.yaml").read_text(encoding="utf-8")
    text = text.replace("\nname: efficientnet-lite0\n", "\nname: changing\n")
    text = re.sub(r"padding: \d+", f"padding: {random.choice(PADDINGS)}", text)
    (installation.root / "changing.yaml").write_text(text, encoding="utf-8")


def run(rounds: int, seed: int, cache: Path) -> bool:
    """Do the rounds, tell of each, and return whether nothing was lost and no ghost was seen."""
    return tell(Rebuild(seed, cache), rounds, seed)
