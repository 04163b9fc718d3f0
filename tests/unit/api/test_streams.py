"""Answers with long lists: they are what they would be if they were made whole, and are never held whole."""

from __future__ import annotations

import tracemalloc

import pytest

from daemon.api import schema
from daemon.api.streams import PAGE, json_pieces


def failure(number: int) -> schema.Failure:
    return schema.Failure(
        path=f'/in/"failures": [/{number} \udce9', reason="it is text", kind="not_an_image", attempts=1, since=""
    )


@pytest.mark.parametrize("number", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_an_answer_in_pieces_is_the_answer_as_a_whole(number: int) -> None:
    found = [failure(one) for one in range(number)]
    empty = schema.FailuresAnswer(failures=[], total=0)
    pieces = list(json_pieces(empty, "failures", (one.model_dump() for one in found), count="total"))
    assert b"".join(pieces) == schema.FailuresAnswer(failures=found, total=number).json_bytes()
    assert len(pieces) == number // PAGE + 1

    paths = [one.path for one in found]
    held = schema.HeldDeletions(
        folder='/in/"paths": []', state="held", reason="it is gone", since="", files=0, recorded=0, paths=[]
    )
    streamed = json_pieces(schema.DeletionsAnswer(folders=[held]), "paths", paths)
    whole = schema.DeletionsAnswer(folders=[held.model_copy(update={"paths": paths})])
    assert b"".join(streamed) == whole.json_bytes()


def test_a_long_answer_is_never_held_whole() -> None:
    tracemalloc.start()
    empty = schema.FailuresAnswer(failures=[], total=0)
    described = (failure(one).model_dump() for one in range(20_000))
    length = sum(map(len, json_pieces(empty, "failures", described, count="total")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length > 2_000_000
    assert peak < 1_000_000
