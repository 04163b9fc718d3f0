"""Standard streams that are closed when a process starts."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import json, os, sys
from daemon import standard_streams
standard_streams._open_missing()
pipe = os.pipe()
with open(sys.argv[1], "w") as report:
    print(json.dumps({
        "opened": min(pipe),
        "targets": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "inherited": [os.get_inheritable(number) for number in range(3)],
        "stderr": sys.stderr is not None,
    }), file=report)
print("said", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    "closed", [which for count in range(4) for which in itertools.combinations(range(3), count)], ids=str
)
def test_nothing_that_is_opened_later_gets_the_number_of_a_standard_stream(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    script = f'exec "$0" -c "$1" "$2" {" ".join(f"{number}>&-" for number in closed)}'
    subprocess.run(["sh", "-c", script, sys.executable, CODE, str(report)], check=True, capture_output=True)
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["opened"] > 2
    assert found["inherited"] == [True] * 3
    assert found["stderr"]
    for number in closed:
        assert found["targets"][number] == "/dev/null"
