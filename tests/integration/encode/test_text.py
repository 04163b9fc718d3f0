"""Text towers over the real tokenizer library and the real runtime."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from daemon.encode.text import TextEncoder
from daemon.errors import ModelError
from tests.integration.encode.small_models import Shape, graph_of, small_model

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.models import Model

WORDS = ["<unk>", "[PAD]", "<s>", "a", "red", "boat", "cat", "photo", "of", "ships", "at", "sea", "Red", "blue"]
DIM = 4
CONTEXT = 8
TOKENS: Shape = ["batch", "tokens"]
HIDDEN: dict[str, Shape] = {"hidden": ["batch", "tokens", DIM]}
TABLE = np.random.default_rng(7).normal(size=(len(WORDS), DIM)).astype(np.float32)
LOOK_UP = [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])]


def tokenizer(words: list[str] = WORDS, **padding: Any) -> str:
    """Return a tokenizer of whole words that begins each text with <s>."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words.index("<s>"))])
    if padding:
        made.enable_padding(**padding)
    return str(made.to_str())


def tower(
    directory: Path,
    graph: bytes | None = None,
    *,
    tokens: str | None = None,
    dim: int = DIM,
    output: dict[str, Any] | None = None,
    **text: Any,
) -> Model:
    """Return a model whose text tower is by default a table of vectors by word, averaged over the tokens."""
    described = {
        "source": {"kind": "file", "path": "text.onnx"},
        "tokenizer": {"kind": "file", "path": "tokenizer.json"},
        "context": CONTEXT,
        "output": output or {"pooling": "mean-of-tokens"},
    } | text
    return small_model(
        directory,
        text_graph=graph or table(),
        tokenizer=tokens or tokenizer(),
        output={"pooling": "avg", "dim": dim},
        text=described,
    )


def table(inputs: dict[str, Shape] | None = None, *, dtype: int = TensorProto.INT64) -> bytes:
    return graph_of(LOOK_UP, HIDDEN, inputs or {"input_ids": TOKENS}, dtype=dtype, weights={"table": TABLE})


def mean_of(*words: str) -> np.ndarray:
    row = TABLE[[WORDS.index(word) for word in words]].mean(axis=0)
    return np.asarray(row / np.linalg.norm(row))


def test_a_text_is_a_float32_row_of_length_one_the_mean_of_its_tokens(tmp_path: Path) -> None:
    row = TextEncoder(tower(tmp_path), threads=1).encode(" red boat\n")
    assert (row.shape, row.dtype) == ((DIM,), np.dtype(np.float32))
    np.testing.assert_allclose(row, mean_of("<s>", "red", "boat"), rtol=1e-5)


def test_a_text_stands_in_the_template_and_is_lower_case_where_the_spec_says_so(tmp_path: Path) -> None:
    plain = TextEncoder(tower(tmp_path / "plain", template="a photo of a {}"), threads=1)
    np.testing.assert_allclose(plain.encode("Red"), mean_of("<s>", "a", "photo", "of", "a", "Red"), rtol=1e-5)
    lower = TextEncoder(tower(tmp_path / "lower", lowercase=True), threads=1)
    np.testing.assert_allclose(lower.encode("Red BOAT"), mean_of("<s>", "red", "boat"), rtol=1e-5)
    np.testing.assert_allclose(plain.encode("{}"), mean_of("<s>", "a", "photo", "of", "a", "<unk>"), rtol=1e-5)


def test_padding_does_not_count_in_the_mean(tmp_path: Path) -> None:
    fixed = table({"input_ids": ["batch", CONTEXT]})
    encoder = TextEncoder(tower(tmp_path, fixed, pad=True), threads=1)
    np.testing.assert_allclose(encoder.encode("red boat"), mean_of("<s>", "red", "boat"), rtol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (tokenizer(pad_id=5, pad_token="boat", length=3), 5),
        (tokenizer(), WORDS.index("[PAD]")),
        (tokenizer(["none", "some", "<s>", "red", "a", "cat", "sea"]), 0),
    ],
    ids=["its own padding", "its pad token", "neither"],
)
def test_a_text_is_padded_with_what_its_tokenizer_says(tmp_path: Path, tokens: str, expected: int) -> None:
    encoder = TextEncoder(tower(tmp_path, tokens=tokens, pad=True), threads=1)
    found = encoder._tokens("red")
    assert found["input_ids"].shape == (1, CONTEXT)
    assert found["input_ids"][0, 2:].tolist() == [expected] * (CONTEXT - 2)
    assert found["attention_mask"][0].tolist() == [1, 1, *[0] * (CONTEXT - 2)]


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_a_tower_is_fed_every_input_it_takes_as_the_integers_it_takes(tmp_path: Path, dtype: int) -> None:
    names = ["input_ids", "attention_mask", "token_type_ids", "position_ids"]
    nodes = [
        helper.make_node("Add", ["input_ids", "attention_mask"], ["a"]),
        helper.make_node("Add", ["token_type_ids", "position_ids"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["d", "axis"], ["hidden"]),
    ]
    graph = graph_of(
        nodes,
        {"hidden": ["batch", "tokens", 1]},
        {name: ["batch", "tokens"] for name in names},
        dtype=dtype,
        weights={"axis": np.array([1], np.int64)},
    )
    encoder = TextEncoder(tower(tmp_path, graph, dim=4, context=4, pad=True, output={"pooling": "cls"}), threads=1)
    # ids + mask + types + positions of "<s> red boat [PAD]".
    row = np.array([2 + 1 + 0, 4 + 1 + 1, 5 + 1 + 2, 1 + 0 + 3])
    np.testing.assert_allclose(encoder.encode("red boat"), row / np.linalg.norm(row), rtol=1e-6)


def test_an_output_is_chosen_by_name_or_position_and_the_first_token_can_stand_for_the_text(tmp_path: Path) -> None:
    nodes = [
        *LOOK_UP,
        helper.make_node("Neg", ["hidden"], ["negative"]),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=1),
    ]
    outputs = HIDDEN | {"negative": HIDDEN["hidden"], "ids": TOKENS}
    graph = graph_of(nodes, outputs, {"input_ids": TOKENS}, dtype=TensorProto.INT64, weights={"table": TABLE})
    with pytest.raises(
        ModelError, match=r"set 'text\.output\.name' in its spec to one of its outputs: hidden, negative, ids"
    ):
        TextEncoder(tower(tmp_path / "none", graph), threads=1)
    for name in ("negative", 1):
        output = {"name": name, "pooling": "mean-of-tokens"}
        encoder = TextEncoder(tower(tmp_path / str(name), graph, output=output), threads=1)
        np.testing.assert_allclose(encoder.encode("cat"), -mean_of("<s>", "cat"), rtol=1e-5)
    with pytest.raises(ModelError, match="gives every text the same vector"):
        TextEncoder(tower(tmp_path / "cls", graph, output={"name": 0, "pooling": "cls"}), threads=1)


def test_a_text_beyond_the_context_is_cut(tmp_path: Path) -> None:
    encoder = TextEncoder(tower(tmp_path), threads=1)
    kept = encoder.encode("red boat a cat at sea of ships")
    np.testing.assert_allclose(kept, mean_of("<s>", "red", "boat", "a", "cat", "at", "sea", "of"), rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode("red boat a cat at sea of ships" + " cat" * 25_000), kept)


@pytest.mark.parametrize("word", ["red boat ", "cat", "\u6d77", "\U0001f408"])
def test_a_tokenizer_never_sees_more_of_a_text_than_its_context_can_hold(tmp_path: Path, word: str) -> None:
    encoder = TextEncoder(tower(tmp_path, template="a photo of {}"), threads=1)
    seen: list[int] = []
    inner = encoder._tokenizer

    class Counting:
        def encode(self, text: str) -> object:
            seen.append(len(text))
            return inner.encode(text)

    encoder._tokenizer = Counting()
    assert encoder.encode(word * 100_000).shape == (DIM,)
    assert seen == [16 * CONTEXT + len("a photo of ")]


def test_bytes_of_a_file_name_that_are_no_text_are_encoded_all_the_same(tmp_path: Path) -> None:
    assert TextEncoder(tower(tmp_path), threads=1).encode("red \udcff boat").shape == (DIM,)


def test_many_threads_get_the_rows_that_one_gets(tmp_path: Path) -> None:
    encoder = TextEncoder(tower(tmp_path), threads=1)
    texts = [" ".join(WORDS[3 + start : 3 + start + length]) for start in range(6) for length in (1, 2, 4)]
    expected = [encoder.encode(text) for text in texts]
    results: dict[int, list[np.ndarray]] = {}

    def work(number: int) -> None:
        results[number] = [encoder.encode(text) for text in texts for _ in range(5)][::5]

    threads = [threading.Thread(target=work, args=(number,), name=f"text-{number}") for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for rows in results.values():
        np.testing.assert_array_equal(rows, expected)


def constant() -> bytes:
    nodes = [
        helper.make_node("Mul", ["input_ids", "zero"], ["zeros"]),
        helper.make_node("Gather", ["table", "zeros"], ["hidden"]),
    ]
    weights: dict[str, np.ndarray] = {"table": TABLE, "zero": np.array(0, np.int64)}
    return graph_of(nodes, HIDDEN, {"input_ids": TOKENS}, dtype=TensorProto.INT64, weights=weights)


def not_finite() -> bytes:
    weights = {"table": np.full_like(TABLE, np.nan)}
    return graph_of(LOOK_UP, HIDDEN, {"input_ids": TOKENS}, dtype=TensorProto.INT64, weights=weights)


@pytest.mark.parametrize(
    ("graph", "changes", "reason"),
    [
        (table({"input_ids": TOKENS, "pixel_values": TOKENS}), {}, "takes pixel_values, which is none of input_ids"),
        (
            table({"input_ids": TOKENS}, dtype=TensorProto.INT64),
            {"dim": 5},
            "gives 4 numbers a text where its photos have 5",
        ),
        (table({"input_ids": ["batch", 77]}), {}, "set 'text.context' in its spec to 77 and 'text.pad' to true"),
        (table({"input_ids": ["batch", 77]}), {"pad": True}, "takes 77 tokens, no more and no fewer"),
        (table({"input_ids": [2, "tokens"]}), {}, "takes 2 texts at a time"),
        (table(), {"output": {"pooling": "none"}}, "check 'text.output' in its spec"),
        (constant(), {}, "gives every text the same vector"),
        (not_finite(), {}, "not finite, or all zero.*check 'text' in its spec"),
        (b"no graph", {}, "cannot be loaded"),
        (table(), {"tokens": "{}"}, "is no tokenizer"),
    ],
)
def test_a_tower_that_gives_no_vector_of_its_spec_is_refused_at_once(
    tmp_path: Path, graph: bytes, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        TextEncoder(tower(tmp_path, graph, **changes), threads=1)


def test_a_tower_that_takes_no_whole_numbers_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["input_ids"], ["hidden"])]
    with pytest.raises(ModelError, match="takes input_ids as float, not int64 or int32"):
        TextEncoder(tower(tmp_path, graph_of(nodes, {"hidden": TOKENS}, {"input_ids": TOKENS})), threads=1)


def test_a_model_without_a_text_tower_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no text tower"):
        TextEncoder(small_model(tmp_path), threads=1)


def test_without_the_tokenizer_library_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModelError, match=r"pip install '\.\[text\]'` in a clone"):
        TextEncoder(tower(tmp_path), threads=1)


def test_a_word_that_a_tower_answers_with_nothing_is_an_error_and_not_a_row(tmp_path: Path) -> None:
    bare = TABLE.copy()
    bare[[WORDS.index("<s>"), WORDS.index("<unk>")]] = 0
    graph = graph_of(LOOK_UP, HIDDEN, {"input_ids": TOKENS}, dtype=TensorProto.INT64, weights={"table": bare})
    encoder = TextEncoder(tower(tmp_path, graph), threads=1)
    with pytest.raises(ModelError, match="all zero"):
        encoder.encode("unheard")


def test_a_closed_tower_says_that_it_is_not_loaded(tmp_path: Path) -> None:
    encoder = TextEncoder(tower(tmp_path), threads=1)
    encoder.close()
    with pytest.raises(ModelError, match="no longer loaded"):
        encoder.encode("red")


def test_a_tokenizer_file_of_another_shape_is_named(tmp_path: Path) -> None:
    model = tower(tmp_path)
    assert model.tokenizer
    model.tokenizer.write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        TextEncoder(dataclasses.replace(model), threads=1)
