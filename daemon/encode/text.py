"""From a text to a unit vector where the photos of its model are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.encode.heads import unit
from daemon.encode.pooling import pooled
from daemon.encode.session import Session
from daemon.encode.trial import refuse_constant
from daemon.errors import ModelError
from daemon.installing import installing_text

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.models import Model
    from daemon.encode.session import Port
    from daemon.encode.specs import TextSpec

# A tokenizer reads all of a text before it cuts the tokens. Languages written in Latin letters have 4 to 5 characters a
# token, Chinese 1 to 2, so that 16 cut nothing that would be encoded, but for runs of spaces and words that go on and on.
CHARACTERS_PER_TOKEN = 16
_DTYPES: dict[str, np.dtype[Any]] = {"int64": np.dtype(np.int64), "int32": np.dtype(np.int32)}
_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>")
_TRIAL = ("a cat", "ships at sea in the evening")


class TextEncoder:
    """Turns texts into rows of length 1; safe to be called from several threads."""

    def __init__(self, model: Model, *, threads: int) -> None:
        """Load the text tower of `model` and try it on two texts.

        ModelError when the model has none, when `tokenizers` is not installed, or when what the tower takes or gives is
        not what the spec says.
        """
        self.name = model.spec.name
        text, graph, tokenizer = model.spec.text, model.text_graph, model.tokenizer
        if text is None or graph is None or tokenizer is None:
            raise ModelError(self.name, "it has no text tower; search by text with a model that has.")
        self._text = text
        self._dim = model.spec.output.dim
        self._tokenizer = _tokenizer(self.name, tokenizer, text)
        self._session = Session(self.name, graph, threads=threads, fed_by="text")
        self._dtypes = {port.name: self._dtype(port) for port in self._session.inputs}
        self._output = self._session.output(text.output.name, model=self.name, key="text.output.name")
        refuse_constant(self.name, np.stack([self.encode(trial) for trial in _TRIAL]), "text")

    def encode(self, text: str) -> np.ndarray:
        """Return the row of a text, float32 [dim], of length 1; what exceeds the tower's context is cut.

        ModelError when the tower gives no vector for it.
        """
        tokens = self._tokens(text)
        inputs = {name: tokens[name].astype(dtype) for name, dtype in self._dtypes.items()}
        output = self._session.run(inputs, [self._output])[self._output]
        try:
            rows = pooled(output, self._text.output.pooling, mask=tokens["attention_mask"])
        except ValueError as error:
            raise ModelError(self.name, f"of its text tower, {error}; check 'text.output' in its spec.") from error
        if rows.shape != (1, self._dim):
            reason = (
                f"its text tower gives {rows.shape[-1]} numbers a text where its photos have {self._dim}; "
                "check 'text.output' and 'output.dim' in its spec."
            )
            raise ModelError(self.name, reason)
        row: np.ndarray = unit(rows, self.name, "text")[0]
        return row

    def close(self) -> None:
        """Give the tower's memory back; ModelError from encode from now on."""
        self._session.close()

    def _tokens(self, text: str) -> dict[str, np.ndarray]:
        """Return all that a tower may take, each [1, tokens]."""
        # Names of files may hold bytes that are no UTF-8, for which Python has surrogates and a tokenizer nothing.
        clean = text.strip().encode("utf-8", "replace").decode()
        filled = self._text.template.replace("{}", clean[: CHARACTERS_PER_TOKEN * self._text.context])
        encoding = self._tokenizer.encode(filled.lower() if self._text.lowercase else filled)
        rows = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
            "position_ids": range(len(encoding.ids)),
        }
        return {name: np.array([values], np.int64) for name, values in rows.items()}

    def _dtype(self, port: Port) -> np.dtype[Any]:
        """Return what to feed an input as; ModelError when it is none that a text has, or of another length."""
        known = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
        if port.name not in known:
            reason = (
                f"its text tower takes {port.name}, which is none of {', '.join(known)}; export the text part alone."
            )
            raise ModelError(self.name, reason)
        if port.dtype not in _DTYPES:
            reason = (
                f"its text tower takes {port.name} as {port.dtype}, not int64 or int32; export it with one of them."
            )
            raise ModelError(self.name, reason)
        self._refuse_other_lengths(port)
        return _DTYPES[port.dtype]

    def _refuse_other_lengths(self, port: Port) -> None:
        texts, length = port.shape if len(port.shape) == 2 else (None, None)  # noqa: PLR2004
        if isinstance(texts, int) and texts != 1:
            raise ModelError(
                self.name, f"its text tower takes {texts} texts at a time; export it with a batch of any size, or of 1."
            )
        if isinstance(length, int) and not (self._text.pad and length == self._text.context):
            reason = f"its text tower takes {length} tokens, no more and no fewer; set 'text.context' in its spec to {length}"
            raise ModelError(self.name, f"{reason} and 'text.pad' to true.")


def _tokenizer(name: str, path: Path, text: TextSpec) -> Any:
    """Return the tokenizer at `path` set to cut at the context, and to pad to it where the spec says so."""
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, which only texts need
    except ImportError as error:
        reason = f"its text tower needs the package tokenizers, which is not installed; run {installing_text()}."
        raise ModelError(name, reason) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # tokenizers raises nothing but Exception, or panics, with a BaseException.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ModelError(name, f"{path} is no tokenizer ({error}); take the tokenizer.json of the model.") from error
    pad_id, pad_token = _padding(tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=text.context)
    if text.pad:
        tokenizer.enable_padding(length=text.context, pad_id=pad_id, pad_token=pad_token)
    return tokenizer


def _padding(tokenizer: Any) -> tuple[int, str]:
    """Return what a tokenizer pads with: by its own configuration, or its pad token; 0 where it has neither, as CLIP's."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"]), str(tokenizer.padding["pad_token"])
    for token in _PAD_TOKENS:
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found), token
    return 0, str(tokenizer.id_to_token(0))
