"""Whether lookaliked could start with the models that a configuration names, as far as that can be told without loading one."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from daemon.catalogue.files import state
from daemon.encode.providers import CPU, Provider
from daemon.errors import ConfigError
from daemon.installing import installing_text
from daemon.ownership import is_barred

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Reading
    from daemon.documents import Complaint
    from daemon.encode.specs import ModelSpec


def complaints(reading: Reading, catalogue: Catalogue) -> list[Complaint]:
    """Return everything for which the models and their provider could not be used, each with its place."""
    return [*_of_models(reading, catalogue), *_of_provider(reading)]


def lacking(spec: ModelSpec, models_dir: Path) -> str:
    """Return what the model needs that is not on this machine, and what to do; an empty string where it is ready."""
    _, reason = state(spec, models_dir)
    if not reason and spec.text and importlib.util.find_spec("tokenizers") is None:
        reason = f"its text tower needs the package tokenizers, which is not installed; run {installing_text()}"
    return reason.removesuffix(".")


def _of_models(reading: Reading, catalogue: Catalogue) -> Iterator[Complaint]:
    seen: dict[str, str] = {}
    for place, model in reading.models:
        try:
            spec = catalogue.load(model)
        except ConfigError as error:
            source = "" if error.source == "models" else f"{error.source}: "
            yield from ((place, f"{source}{problem}") for problem in error.problems)
            continue
        if spec.name in seen:
            yield place, f"{model} and {seen[spec.name]} are two models called {spec.name}; rename one"
        seen[spec.name] = model
        # Pulled files lie in the data directory. That key may be the wrong one, and another user's directory tells nothing.
        is_unknown = reading.is_wrong("data_dir") or is_barred(reading.config.models_dir)
        reason = "" if is_unknown else lacking(spec, reading.config.models_dir)
        if reason:
            yield place, f"{spec.name}: {reason}"


def _of_provider(reading: Reading) -> Iterator[Complaint]:
    encode = reading.config.encode
    if encode.provider == CPU.name or encode.allow_fallback:
        return
    import onnxruntime  # noqa: PLC0415 - who runs models with the CPU need not wait for it

    provider = Provider(encode.provider, encode.provider_options)
    available = onnxruntime.get_available_providers()
    if provider.execution_provider not in available:
        yield ("encode", "provider"), provider.absence(available).removesuffix(".")
