"""JSON of a request: it reads what a parser reads, within bounds, and leaves long strings where they are."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.api.asking import MAX_CHARACTERS, MAX_TERMS, Picture, Text, question
from daemon.errors import ExportError, QueryError
from daemon.outline import LONG_BYTES, MOST_DEPTH, MOST_VALUES, Long, NotJsonError, TooMuchError, parsed
from daemon.transfer.parsing import read_photos

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
# A quote, a backslash, and what escapes are made of, come more often than they would.
TEXTS = st.text(st.sampled_from('"\\/,[]{}u0:é\N{FIRE}\n ') | st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES, is_ascii=st.booleans())
def test_it_reads_what_a_parser_reads(*, value: Any, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    try:
        assert parsed(body) == json.loads(body)
    except TooMuchError:
        assert body.count(b"[") + body.count(b"{") > MOST_DEPTH


@given(st.binary(max_size=60) | st.text(st.sampled_from('"\\[]{},:u0 1a'), max_size=60).map(str.encode))
def test_it_refuses_what_a_parser_refuses(body: bytes) -> None:
    try:
        expected = json.loads(body.decode("utf-8-sig", "surrogatepass"))
    except ValueError:
        with pytest.raises((NotJsonError, TooMuchError)):
            parsed(body)
    else:
        assert repr(parsed(body)) == repr(expected)


@given(st.integers(0, 5), st.integers(0, 2**32), st.sampled_from(["plain", "slashes", "codes"]))
@settings(max_examples=30, deadline=None)
def test_a_long_string_is_decoded_in_its_place_whatever_way_it_is_written(more: int, seed: int, way: str) -> None:
    data = random.Random(seed).randbytes(200_000 + more)
    text = base64.b64encode(data)
    if way == "slashes":
        text = text.replace(b"/", b"\\/")
    if way == "codes":
        text = text.replace(b"+", b"\\u002B").replace(b"A", b"\\u0041").replace(b"/", b"\\/")
    value = parsed(b'{"before": 1, "image": "' + text + b'", "after": ["x"]}')
    assert isinstance(value["image"], Long)
    assert (value["before"], value["after"]) == (1, ["x"])
    assert value["image"].from_base64() == data


@pytest.mark.parametrize(
    "text", [b"A" * 200_001, b"AAAA" * 70_000 + b"A=", b"QQ==" * 70_000, b"A" * 199_999 + b"!", b"AAA\\u00e9" * 40_000]
)
def test_what_is_no_base64_is_refused_in_pieces_too(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"base64|padding|ascii|data|multiple"):
        parsed(b'{"image": "' + text + b'"}')["image"].from_base64()


def test_the_longest_question_is_understood_however_it_is_written() -> None:
    texts = ["\N{FIRE}" * MAX_CHARACTERS, '"' * MAX_CHARACTERS, ",[" * (MAX_CHARACTERS // 2), "\\" * MAX_CHARACTERS]
    terms = [{"text": texts[number % len(texts)], "weight": 0.5} for number in range(MAX_TERMS)]
    for is_ascii in (True, False):
        body = json.dumps({"terms": terms}, ensure_ascii=is_ascii).encode()
        found = question(body, is_json=True, limit=1)
        assert [term.what for term in found.terms] == [Text(str(term["text"])) for term in terms]


def test_the_name_of_a_long_string_cannot_be_guessed_and_passes_for_no_text() -> None:
    for key in ("text", "path"):
        with pytest.raises(QueryError) as caught:
            question(json.dumps({"terms": [{key: "x" * (LONG_BYTES + 9)}]}).encode(), is_json=True, limit=1)
        assert caught.value.code == "bad_request"


def test_pictures_are_cut_out_of_the_body_and_cost_nothing() -> None:
    pictures = [random.Random(seed).randbytes(3 * MIB) for seed in range(3)]
    body = bytearray(json.dumps({"terms": [{"image": base64.b64encode(one).decode()} for one in pictures]}).encode())
    tracemalloc.start()
    found = question(body, is_json=True, limit=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [term.what for term in found.terms] == [Picture(one) for one in pictures]
    assert peak < 2 * MIB


LARGE = 28 * MIB


def cost(work: Callable[[], None]) -> int:
    """Return by how many bytes this process is larger at its largest than before."""
    # 5 resets the peak: proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(key: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition(f"{key}:")[2].split()[0])


@pytest.mark.parametrize(
    "body",
    [
        b"[[" + b"[]," * (LARGE // 3) + b"[]]]",
        b"[" * LARGE,
        b'{"a":' * (LARGE // 5),
        b'{"terms": [' + b'{"id":1},' * (LARGE // 9) + b"1]}",
        b"[" + b"0," * (LARGE // 2) + b"0]",
        b'["' + b'","' * (LARGE // 3) + b'"]',
        b'["' + b"\\" * LARGE + b'"]',
        b'["' + b'\\"' * (LARGE // 2) + b'"]',
        b'["' + "\N{FIRE}".encode() * (LARGE // 4) + b'"]',
        b'{"path": "' + "\N{FIRE}".encode() * (LARGE // 4) + b'"}',
        b'{"' + "\N{FIRE}".encode() * (LARGE // 4) + b'": 1}',
        b'{"image": "' + "\N{FIRE}".encode() * (LARGE // 4) + b'"}',
        b" " * LARGE + b"{}",
        b"9" * LARGE,
        b"[" + b"9" * LARGE + b"]",
        b'"' + b"a" * LARGE,
        ("[" + '"a",' * (LARGE // 10) + "1]").encode("utf-16"),
    ],
    ids=lambda body: repr(bytes(body[:12])),
)
def test_whatever_is_sent_costs_little_beyond_its_own_bytes(body: bytes) -> None:
    asked = bytearray(body)

    def ask() -> None:
        with contextlib.suppress(QueryError):
            question(asked, is_json=True, limit=1)

    assert cost(ask) < 40 * MIB


def test_values_and_depth_are_bounded_exactly() -> None:
    parsed(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH)
    with pytest.raises(TooMuchError, match="nested"):
        parsed(b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1))
    parsed(json.dumps([0] * (MOST_VALUES - 2)).encode())
    with pytest.raises(TooMuchError, match="values"):
        parsed(json.dumps([0] * MOST_VALUES).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"[[" + b"[]," * (16 * MIB // 3) + b"[]]]",
        b"[" + b'{"a":0},' * (2 * MIB) + b"0]",
        b"[" * (16 * MIB),
    ],
    ids=lambda payload: repr(payload[:10]),
)
def test_a_frame_of_an_export_costs_little_beyond_its_own_bytes(payload: bytes) -> None:

    def read() -> None:
        with pytest.raises(ExportError, match="not as lookalike writes it"):
            read_photos(payload)

    assert cost(read) < 40 * MIB
