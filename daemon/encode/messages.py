"""Walks an ONNX model, whatever its fields are called: nothing in it goes unseen because it lies somewhere unusual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto

from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def parts(name: str, whole: Message) -> Iterator[Message]:
    """Yield a message and every message in it, however deep; of tensors, not their data. ModelError when a text is none."""
    pending: list[Message] = [whole]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, TensorProto):
            pending.extend(part.external_data)
            _check_text(name, [part.name])
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                pending.extend([value] if isinstance(value, Message) else value)
            elif field.type == field.TYPE_STRING:
                _check_text(name, [value] if isinstance(value, str | bytes) else value)


def _check_text(name: str, texts: Iterable[str | bytes]) -> None:
    """Refuse texts that are no UTF-8: protobuf gives them as bytes."""
    if any(isinstance(text, bytes) for text in texts):
        raise ModelError(name, "its file is not an ONNX graph, or a damaged one; get or export it again.")
