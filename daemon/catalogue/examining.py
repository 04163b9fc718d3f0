"""Reads and tries a graph of the user's own, and writes down what spec it should have."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from daemon.catalogue.annotated import annotated
from daemon.catalogue.proposal import model_name, propose
from daemon.encode import graphs
from daemon.encode.encoder import Encoder
from daemon.encode.inputs import photo_input
from daemon.encode.models import prepare
from daemon.encode.pooling import pooled
from daemon.encode.preprocess import preprocess
from daemon.encode.session import Session
from daemon.encode.sources import sha256_of
from daemon.encode.specs import InputSpec, ModelSpec
from daemon.encode.text import TextEncoder
from daemon.encode.trial import trial_images
from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.catalogue.wishes import Wishes

_CONTEXTS = {"clip": 77, "siglip": 64}
_USUAL_CONTEXT = 128
_SIZE_AXES = 2


@dataclass(frozen=True)
class Addition:
    """A model that was tried and works: its spec as YAML, the files it needs, and what was decided on the way."""

    name: str
    yaml: str
    files: dict[str, Path]
    """Where each file is, by its path below the directory NAME beside the spec."""
    decisions: list[str]


def examine(file: Path, wishes: Wishes, cache_dir: Path) -> Addition:
    """Read and try the graph in `file`, and return what would be added; ModelError with the reason why it cannot work."""
    name = wishes.name or model_name(file.stem)
    if not name:
        raise ModelError(file.name, "no name can be made of the file's; give one with --name.")
    info = graphs.check(name, file)
    proposal = propose(name, info, wishes)
    licence = wishes.licence or "unknown"
    decisions = list(proposal.decisions)
    spec: dict[str, Any] = {
        "name": name,
        "licence": licence,
        "source": _source(name, file),
        "input": proposal.input,
        "output": proposal.output,
        "metric": wishes.metric,
    }
    spec["output"]["dim"] = _dimension(name, file, spec)
    decisions.append(f"dimension: {spec['output']['dim']}, as it came out when it was run")
    files = {relative: file.parent / relative for relative in info.external} | {file.name: file}
    if wishes.text is not None:
        spec["text"] = _text(name, wishes, files, decisions)
    if licence == "unknown":
        decisions.append("licence: unknown; say it with --licence, or in the spec")
    _try(spec, cache_dir)
    return Addition(name, annotated(f"{name}, made of {file.name}.", _relative(spec, name)), files, decisions)


def _source(name: str, file: Path) -> dict[str, Any]:
    return {"kind": "file", "path": str(file.absolute()), "sha256": sha256_of(name, file)}


def _dimension(name: str, file: Path, spec: dict[str, Any]) -> int:
    """Run the graph once, and return how many numbers a photo becomes."""
    fed = InputSpec.model_validate(spec["input"])
    session = Session(name, file, threads=1)
    output = session.output(spec["output"].get("name"), model=name, key="output.name")
    photo = preprocess(trial_images(fed.size)[0], fed)[np.newaxis]
    result = session.run({photo_input(session, fed): photo}, [output])[output]
    try:
        return int(pooled(result, spec["output"]["pooling"], fed.layout).shape[1])
    except ValueError as error:
        raise ModelError(name, f"{error}; set --pooling, or another --output.") from error


def _text(name: str, wishes: Wishes, files: dict[str, Path], decisions: list[str]) -> dict[str, Any]:
    if wishes.text is None or wishes.tokenizer is None:
        raise ModelError(name, "a text tower needs its tokenizer; name its tokenizer.json with --tokenizer.")
    info = graphs.check(name, wishes.text)
    fixed = next((value.shape[1] for value in info.inputs if value.shape and len(value.shape) == _SIZE_AXES), None)
    context = wishes.context or (
        fixed if isinstance(fixed, int) else _CONTEXTS.get(wishes.preset or "", _USUAL_CONTEXT)
    )
    names = [value.name for value in info.outputs]
    known = next(
        (one for one in ("text_embeds", "text_features", "pooler_output", "last_hidden_state") if one in names), None
    )
    if len(names) > 1 and known is None:
        raise ModelError(
            name, f"its text tower has the outputs {', '.join(names)}; export it with the embedding alone."
        )
    pooling = "mean-of-tokens" if known == "last_hidden_state" else "none"
    pad = isinstance(fixed, int)
    decisions.append(
        f"text: {known or names[0]}, pooling {pooling}, {context} tokens{', always filled up' if pad else ''}"
    )
    for file in (wishes.text, wishes.tokenizer):
        _keep(name, files, f"text/{file.name}", file)
    for relative in info.external:
        _keep(name, files, f"text/{relative}", wishes.text.parent / relative)
    return {
        "source": _source(name, wishes.text),
        "tokenizer": _source(name, wishes.tokenizer),
        "context": context,
        "pad": pad,
        "output": ({} if len(names) == 1 else {"name": known}) | {"pooling": pooling},
    }


def _keep(name: str, files: dict[str, Path], relative: str, file: Path) -> None:
    if relative in files:
        raise ModelError(name, f"two of its files are called {relative}; rename one.")
    files[relative] = file


def _try(spec: dict[str, Any], cache_dir: Path) -> None:
    """Load the model as lookaliked would; ModelError when its vectors are none, or all the same."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="trial-", dir=cache_dir) as work:
            model = prepare(_validated(spec), Path(work), Path(work))
            Encoder([model], threads=1).close()
            if model.text_graph is not None:
                TextEncoder(model, threads=1).close()
    except OSError as error:
        reason = f"it cannot be tried in {cache_dir} ({error.strerror}); free space there, or allow it."
        raise ModelError(spec["name"], reason) from error


def _validated(spec: dict[str, Any]) -> ModelSpec:
    try:
        return ModelSpec.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = (
            f"of it no spec can be made, at '{place}': {first['msg'].removeprefix('Value error, ')}; name it otherwise."
        )
        raise ModelError(str(spec["name"]), reason) from error


def _relative(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the spec with its files where they will lie: in the directory NAME beside it, those of the text tower in text/."""
    moved = spec | {"source": _moved(spec["source"], name)}
    if "text" in spec:
        text = spec["text"]
        moved["text"] = text | {key: _moved(text[key], f"{name}/text") for key in ("source", "tokenizer")}
    return moved


def _moved(source: dict[str, Any], directory: str) -> dict[str, Any]:
    return source | {"path": f"{directory}/{Path(source['path']).name}"}
