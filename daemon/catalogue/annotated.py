"""Writes a proposed spec as YAML with comments, for its user to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SAID = {
    "name": "How the model is called in commands and collections.",
    "summary": "What it is good for, in a few words.",
    "licence": "The licence of the weights, an SPDX expression.",
    "source": "The file, relative to this one, and its checksum: another file is refused.",
    "input": "What the model is fed: (pixel * scale - mean) / std. No graph says it; it has to be as the model was trained.",
    "input.preset": "keras-caffe, keras-tf, torchvision, clip or siglip; keys beside it stand over the preset's.",
    "input.size": "The side of the square the model sees, in pixels.",
    "input.resize": "centre-square, shortest, longest or exact.",
    "output": "Which output is the embedding, how it becomes one row, and how many numbers the row has.",
    "output.pooling": "none, avg, max, cls or mean-of-tokens.",
    "metric": "How vectors are compared: cosine, l2 or ip.",
    "text": "The graph that maps a text to where its photos are, and its tokenizer.",
    "text.context": "At most so many tokens.",
    "text.pad": "Whether shorter texts are filled up to as many.",
}


def annotated(title: str, spec: Mapping[str, Any]) -> str:
    """Return the YAML document of `spec`, each key that a person may have to correct with what it means above it."""
    return f"# {printable(title)}\n\n" + "\n".join(_lines(spec, _SAID)) + "\n"


def plain(spec: Mapping[str, Any]) -> str:
    """Return the YAML document of `spec` without a comment."""
    return "\n".join(_lines(spec, {})) + "\n"


def _lines(section: Mapping[str, Any], said: Mapping[str, str], place: tuple[str, ...] = ()) -> Iterator[str]:
    indent = "  " * len(place)
    for key, value in section.items():
        here = (*place, key)
        if comment := said.get(".".join(here)):
            yield f"{indent}# {comment}"
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, said, here)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """Return a value in YAML's flow style, on one line."""
    text = _dumped(value, allow_unicode=True)
    # PyYAML takes characters that turn writing round, and others that nobody sees, for printable.
    return text if printable(text) == text else _dumped(value, allow_unicode=False)


def _dumped(value: Any, *, allow_unicode: bool) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=allow_unicode)
    return text.removesuffix("\n...\n").rstrip("\n")
