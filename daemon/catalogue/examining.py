"""Reads and tries a graph of the user's own, and writes down what spec it should have."""

from __future__ import annotations

import stat
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from daemon.catalogue.addition import Addition
from daemon.catalogue.annotated import annotated
from daemon.catalogue.confined import allow
from daemon.catalogue.proposal import chosen_name, propose
from daemon.catalogue.text_tower import propose_text
from daemon.encode import graphs
from daemon.encode.encoder import Encoder
from daemon.encode.inputs import photo_input
from daemon.encode.models import prepare
from daemon.encode.pooling import pooled
from daemon.encode.preprocess import preprocess
from daemon.encode.session import Session
from daemon.encode.sources import sha256_of
from daemon.encode.specs import MAX_DIM, ModelSpec
from daemon.encode.text import TextEncoder
from daemon.encode.trial import trial_images
from daemon.errors import ModelError
from daemon.names import printable

if TYPE_CHECKING:
    from daemon.catalogue.confined import Say
    from daemon.catalogue.wishes import Wishes
    from daemon.encode.models import Model

_SUFFIX = ".onnx"
_PREPROCESSING = "look how it was trained, and set --preset, --output or --pooling by that, or export it again"
_OF_TEXTS = "give the tower and the tokenizer that belong to it, set --context, or export the text part again"


def examine(file: Path, wishes: Wishes, cache_dir: Path, say: Say = lambda _: None) -> Addition:
    """Read and try the graph in `file`, and return what would be added; ModelError with the reason why it cannot work."""
    name = chosen_name(file, wishes)
    for given in filter(None, (file, wishes.text, wishes.tokenizer)):
        _refuse_no_file(name, given)
    if file.suffix.lower() != _SUFFIX:
        reason = f"{file} is no {_SUFFIX} file, and only ONNX graphs can be added; export the model as one."
        raise ModelError(name, reason)
    say(f"{name}: reading {file.name}")
    info = graphs.check(name, file)
    allow(info.size)
    proposal = propose(name, info, wishes)
    files = {relative: file.parent / relative for relative in info.external}
    spec: dict[str, Any] = {
        "name": name,
        "licence": wishes.licence or "unknown",
        "source": _source(name, file, _keep(name, files, f"{name}{_SUFFIX}", file)),
        "input": proposal.input,
        "output": proposal.output,
        "metric": wishes.metric or "cosine",
    }
    decisions = list(proposal.decisions)
    if wishes.text is not None:
        spec["text"] = _text(name, wishes, files, decisions)
    if not wishes.licence:
        decisions.append("licence: unknown; say it with --licence, or in the spec")
    say(f"{name}: running it on a few photos")
    spec["output"]["dim"] = _tried(spec, files, cache_dir)
    decisions.append(f"dimension: {spec['output']['dim']}, as it came out when it was run")
    yaml = annotated(f"{name}, made of {file.name}.", spec)
    return Addition(name, yaml, files, [printable(decision) for decision in decisions])


def _refuse_no_file(name: str, file: Path) -> None:
    """Refuse what is no regular file: one may wait for ever for what comes out of a pipe."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError as error:
        raise ModelError(name, f"there is no {file}; name a file that is there.") from error
    except OSError as error:
        raise ModelError(name, f"{file} cannot be read ({error.strerror}); make it readable.") from error
    if not stat.S_ISREG(mode):
        raise ModelError(name, f"{file} is not a regular file; name the model's file.")


def _source(name: str, file: Path, kept: str) -> dict[str, Any]:
    """Return the source of a file as the spec says it: in the directory NAME beside the spec, under its path there."""
    return {"kind": "file", "path": f"{name}/{kept}", "sha256": sha256_of(name, file)}


def _keep(name: str, files: dict[str, Path], otherwise: str, file: Path) -> str:
    """Note a file under its own name, or under another where that would not be readable; return its path below NAME."""
    folder, slash, usual = otherwise.rpartition("/")
    relative = f"{folder}{slash}{file.name if file.name.isprintable() else usual}"
    if relative in files:
        raise ModelError(name, f"two of its files are called {relative}; rename one.")
    files[relative] = file
    return relative


def _text(name: str, wishes: Wishes, files: dict[str, Path], decisions: list[str]) -> dict[str, Any]:
    if wishes.text is None or wishes.tokenizer is None:
        raise ModelError(name, "a text tower needs its tokenizer; name its tokenizer.json with --tokenizer.")
    info = graphs.check(name, wishes.text)
    allow(info.size)
    section = propose_text(name, info, wishes, decisions)
    files |= {f"text/{relative}": wishes.text.parent / relative for relative in info.external}
    return {
        "source": _source(name, wishes.text, _keep(name, files, f"text/text{_SUFFIX}", wishes.text)),
        "tokenizer": _source(name, wishes.tokenizer, _keep(name, files, "text/tokenizer.json", wishes.tokenizer)),
        **section,
    }


def _tried(spec: dict[str, Any], files: dict[str, Path], cache_dir: Path) -> int:
    """Run the model as lookaliked would, and return how many numbers a photo becomes; ModelError when it does not work."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="trial-", dir=cache_dir) as work:
            # How many numbers it returns shows when it runs; what is copied and checked before does not depend on it.
            model = prepare(_validated(spec, files, dim=1), Path(work), Path(work))
            dim = _dimension(model)
            model = replace(model, spec=_validated(spec, files, dim=dim))
            Encoder([model], threads=1).close()
            if model.text_graph is not None:
                TextEncoder(model, threads=1).close()
            return dim
    except ModelError as error:
        raise _by_options(error) from error
    except OSError as error:
        reason = f"it cannot be tried in {cache_dir} ({error.strerror}); free space there, or allow it."
        raise ModelError(spec["name"], reason) from error


def _dimension(model: Model) -> int:
    """Run the graph once, and return how many numbers a photo becomes."""
    name, fed, read = model.spec.name, model.spec.input, model.spec.output
    session = Session(name, model.graph, threads=1)
    output = session.output(read.name, model=name, key="output.name")
    photo = preprocess(trial_images(fed.size)[0], fed)[np.newaxis]
    result = session.run({photo_input(session, fed): photo}, [output])[output]
    try:
        dim = int(pooled(result, read.pooling, fed.layout).shape[1])
    except ValueError as error:
        raise ModelError(name, f"{error}; set --pooling, or another --output.") from error
    if not 0 < dim <= MAX_DIM:
        reason = (
            f"it gives {dim:,} numbers a photo, and a vector has 1 to {MAX_DIM:,}; set --pooling, or another --output."
        )
        raise ModelError(name, reason)
    return dim


def _validated(spec: dict[str, Any], files: dict[str, Path], *, dim: int) -> ModelSpec:
    """Return the spec of the files where they are now."""
    name = spec["name"]

    def here(source: dict[str, Any]) -> dict[str, Any]:
        return source | {"path": str(files[source["path"].removeprefix(f"{name}/")].absolute())}

    text = spec.get("text")
    if text is not None:
        text = text | {key: here(text[key]) for key in ("source", "tokenizer")}
    output = spec["output"] | {"dim": dim}
    try:
        return ModelSpec.model_validate(spec | {"source": here(spec["source"]), "output": output, "text": text})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        reason = f"no spec can be made of it, for the key {place} ({problem}); export it otherwise, or set its options."
        raise ModelError(name, reason) from error


def _by_options(error: ModelError) -> ModelError:
    """Return the error with the options that may help, where it speaks of a spec, which is not written yet."""
    fact, _, advice = error.reason.rpartition("; ")
    if "spec" not in advice:
        return error
    return ModelError(error.name, f"{fact}; {_OF_TEXTS if 'text' in fact else _PREPROCESSING}.")
