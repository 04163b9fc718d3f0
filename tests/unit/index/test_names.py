"""Names in the stores, and what is shown of a URL."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.index.keys import Keys
from daemon.index.mappings import shown

SECRETS = st.text(st.sampled_from("abc/?@:#%"), min_size=1).map("S3CRET{}".format)


def test_names_of_collections_are_what_milvus_takes() -> None:
    keys = Keys("my_library")
    assert keys.collection("efficientnet-lite0", "0a1b") == "my_library_efficientnet_lite0_0a1b"
    assert keys.alias("né.9") == "my_library_n__9"


def test_a_path_is_a_key_as_its_bytes() -> None:
    path = os.fsdecode(b"/p/\xff\n:photo:1")
    assert Keys("l").file(path) == b"lookalike:l:file:/p/\xff\n:photo:1"


def test_ids_of_63_bits_are_keys() -> None:
    assert Keys("l").photo(2**63 - 1) == b"lookalike:l:photo:9223372036854775807"


@given(SECRETS)
def test_no_password_is_ever_shown(password: str) -> None:
    for url in (
        f"redis://user:{password}@host:1/0",
        f"rediss://:{password}@host",
        f"unix://:{password}@/run/x.sock",
        f"unix:///run/x.sock?password={password}",
        f"redis://host/0?password={password}",
    ):
        assert "S3CRET" not in shown(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/a@b/x.sock", "unix:///run/a@b/x.sock"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("redis://host:6379/2?socket_timeout=1", "redis://host:6379/2"),
        ("redis://:a@b@host", "redis://host"),
        ("redis://host?password=a@b", "redis://…"),
    ],
)
def test_the_place_of_a_store_is_shown(url: str, expected: str) -> None:
    assert shown(url) == expected
