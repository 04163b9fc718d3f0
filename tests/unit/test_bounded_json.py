"""JSON is measured before a value of it is made."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import bounded_json
from daemon.bounded_json import MAX_DEPTH, TooLargeError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + count(inner) for inner in value.values())
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@given(VALUES, st.booleans())
def test_what_is_within_the_bounds_is_read_and_nothing_is_counted_too_low(value: object, ascii_only: bool) -> None:  # noqa: FBT001
    data = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        assert bounded_json.loads(data, most_values=count(value)) == value
        with pytest.raises(TooLargeError):
            bounded_json.loads(data, most_values=count(value) - 1)
    except UnicodeDecodeError:
        assert not ascii_only


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[[],[" * 33,
        b'["\\\\",' + b"[" * 65,
        b'"\\\\"' + b"[" * 100_000,
        b"[" * 1_000_000,
    ],
)
def test_what_is_nested_too_deeply_is_refused(data: bytes) -> None:
    assert MAX_DEPTH < 65
    with pytest.raises(TooLargeError, match="levels deep"):
        bounded_json.loads(data, most_values=10_000_000)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1,", b'"",', b'{"":0},', b'"\\"",'])
def test_what_has_too_many_values_is_refused_and_takes_no_memory(piece: bytes) -> None:
    data = b"[" + piece * 300_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="more than 100,000 values"):
            bounded_json.loads(data, most_values=100_000)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"]" * 1_000_000,
        b'"',
        b'"\\',
        b'["' + b'\\"' * 500_000,
        b"\xff",
        b"9" * 5000,
        "[1]".encode("utf-16"),
        ('"\u0122"' + "[" * 100_000).encode("utf-16-le"),
    ],
)
def test_what_is_no_json_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ValueError):
        bounded_json.loads(data, most_values=1_000_000)
