"""From an ONNX graph of texts, and its tokenizer, to the section `text` of a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.catalogue.wishes import Wishes
    from daemon.encode.graphs import GraphInfo

_CONTEXTS = {"clip": 77, "siglip": 64}
_USUAL_CONTEXT = 128
_MIN_CONTEXT, _MAX_CONTEXT = 4, 8192
_TOKEN_AXES = 2
# What exporters call the output that is meant to be compared, the best first.
_EMBEDDINGS = ("text_embeds", "text_features", "pooler_output", "last_hidden_state")


def propose_text(name: str, info: GraphInfo, wishes: Wishes, decisions: list[str]) -> dict[str, Any]:
    """Return how the text tower of the model `name` is fed and read; ModelError when it cannot be one here."""
    fixed = next((value.shape[1] for value in info.inputs if value.shape and len(value.shape) == _TOKEN_AXES), None)
    pad = isinstance(fixed, int)
    context = wishes.context or (fixed if pad else _CONTEXTS.get(wishes.preset or "", _USUAL_CONTEXT))
    if not isinstance(context, int) or not _MIN_CONTEXT <= context <= _MAX_CONTEXT:
        reason = f"its text tower takes {context} tokens; export it for {_MIN_CONTEXT} to {_MAX_CONTEXT:,} of them."
        raise ModelError(name, reason)
    names = [value.name for value in info.outputs]
    known = next((one for one in _EMBEDDINGS if one in names), None)
    if len(names) > 1 and known is None:
        listed = ", ".join(names)
        raise ModelError(name, f"its text tower has the outputs {listed}; export it with the embedding alone.")
    pooling = "mean-of-tokens" if known == "last_hidden_state" else "none"
    filled = ", always filled up" if pad else ""
    decisions.append(f"text: {known or names[0]}, pooling {pooling}, {context} tokens{filled}")
    output = ({} if len(names) == 1 else {"name": known}) | {"pooling": pooling}
    return {"context": context, "pad": pad, "output": output}
