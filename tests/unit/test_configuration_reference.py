"""What is said of the configuration is said once, in the models, and is what is shipped."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from daemon.config import Config, Folder
from docs.configuration_reference import ANNOTATED, REFERENCE, annotated, documented, reference

SECTIONS = [Config, Folder] + [
    type(default)
    for field in Config.model_fields.values()
    if isinstance(default := field.get_default(call_default_factory=True), BaseModel)
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented(section: type[BaseModel]) -> None:
    assert list(documented(section)) == list(section.model_fields)


def test_the_shipped_file_and_the_reference_are_as_they_are_made() -> None:
    assert ANNOTATED.read_text(encoding="utf-8") == annotated(), "run make docs"
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run make docs"
