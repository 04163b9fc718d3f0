from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.doctor.conftest import Clinic

SPEC = """
name: mine
summary: A model of a test.
licence: MIT
source: {{kind: file, path: {path}, sha256: {sha256}}}
input: {{preset: torchvision, size: 224}}
output: {{name: y, pooling: none, dim: 4}}
metric: cosine
"""


def own_model(clinic: Clinic, path: Path, sha256: str) -> None:
    """Have the configuration name a spec of the user's own."""
    spec = clinic.root / "models" / "mine.yaml"
    spec.parent.mkdir(exist_ok=True)
    spec.write_text(SPEC.format(path=path, sha256=sha256))
    clinic.file.write_text(clinic.file.read_text().replace("[efficientnet-lite0]", "[mine]"))


def test_models_whose_files_are_here_and_right_are_well(clinic: Clinic) -> None:
    (found,) = clinic.look("models")

    assert (found.level, found.sentence.startswith("efficientnet-lite0: all files")) == ("ok", True)


def test_a_model_that_is_not_pulled_is_a_problem_with_the_command(clinic: Clinic) -> None:
    clinic.file.write_text(clinic.file.read_text().replace("efficientnet-lite0", "dinov2-small"))

    found = clinic.worst("models")

    assert (found.level, found.mend) == ("problem", ("lookalike models pull dinov2-small",))


def test_a_name_that_no_model_has_is_a_problem(clinic: Clinic) -> None:
    clinic.file.write_text(clinic.file.read_text().replace("efficientnet-lite0", "efficientnet"))

    found = clinic.worst("models")

    assert (found.level, found.mend) == ("problem", ("lookalike models list",))
    assert "there is no model efficientnet" in found.sentence


def test_a_file_with_other_bytes_than_its_spec_means_is_a_problem(clinic: Clinic) -> None:
    file = clinic.root / "mine.onnx"
    file.write_bytes(b"other bytes")
    own_model(clinic, file, hashlib.sha256(b"bytes").hexdigest())

    found = clinic.worst("models")

    assert found.level == "problem"
    assert "has the SHA-256 " in found.sentence

    file.write_bytes(b"bytes")
    assert clinic.worst("models").level == "ok"
