"""Makes docs/configuration.md and configs/lookalike.yaml of the models in daemon/config.py, where each key is documented: `make docs`."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from daemon import config
from daemon.config import CREDENTIALS, ENVIRONMENT, Config
from daemon.environment import MAY_ACT, MAY_ACT_ON_DOWNLOADS
from daemon.reloading import RESTART

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.environment import Rule

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "configuration.md"
ANNOTATED = ROOT / "configs" / "lookalike.yaml"
WIDTH = 125

YAML_HEAD = f"""\
The configuration of lookaliked. Every key is optional, and stands here with its default.

Read from ~/.config/lookalike/lookalike.yaml when that file is there, or from the file given to `lookaliked run --config`. \
Check a file with `lookaliked check-config FILE`: it also says which models could not be used, and needs no folders. \
Folders and models named on the command line replace `folders` and `models`. What is secret belongs into the environment ({", ".join(ENVIRONMENT)}) or into a credential of the \
service's unit ({", ".join(CREDENTIALS)}), which stand over this file."""

REFERENCE_HEAD = """\
# Configuration

`lookaliked` reads `~/.config/lookalike/lookalike.yaml` when that file is there (the service of the machine `/etc/lookalike/lookalike.yaml`), or the file
given to `lookaliked run --config`. [configs/lookalike.yaml](../configs/lookalike.yaml) has every key with its default, to start from;
`lookaliked check-config FILE` says everything that is wrong with a file at once, each with its place. A key that is not known is an
error, and so is one that is given twice. A key without a value has its default.

The file is YAML 1.2, without aliases (`*name`) and tags, has at most 256 KiB, and a key stands once.

`lookalike reload` has a changed file in force while the daemon runs, but for the keys below of which it is said that they hold from the next start on.

Over the file stand a systemd unit's credentials, over those the environment, and over all of it folders and `--model` on the command line.
"""

ENVIRONMENT_SECTION = """\
## The environment

Libraries read environment variables that other programs set, and `.env` files: pymilvus takes an address from `MILVUS_URI`, gRPC a proxy, OpenMP a number
of threads. None of them acts on lookalike. Both programs keep the variables of this table and remove all others before they load a library, and so their
child processes do not have them either. No `.env` file is read. A name that ends in `*` stands for all variables that begin so.

| variable | read by | reason |
|---|---|---|
{kept}

On `lookalike models pull`, the only command that downloads, these act as well:

| variable | read by | reason |
|---|---|---|
{downloads}

Without a home directory (no `HOME` that is an absolute path, and no entry in the list of users), places have to be named. `LOOKALIKE_DATA_DIR`
is enough: the cache lies in it then. `XDG_*` variables with a relative path are ignored, as their specification asks.
"""


def main() -> None:
    """Write both files."""
    REFERENCE.write_text(reference(), encoding="utf-8")
    ANNOTATED.write_text(annotated(), encoding="utf-8")


def annotated() -> str:
    """Return the annotated defaults."""
    blocks = [_commented(YAML_HEAD, "")]
    for key, field in Config.model_fields.items():
        default = _default(key, field.get_default(call_default_factory=True))
        if isinstance(default, BaseModel):
            blocks.append(f"{key}:\n" + "\n".join(_section(type(default))))
        else:
            blocks.append(f"{_commented(documented(Config)[key], '')}\n{_assigned(key, default, '')}")
    return "\n\n".join(blocks) + "\n"


def _section(model: type[BaseModel]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        says = _with_choices(documented(model)[key], model, key)
        yield f"{_commented(says, '  ')}\n{_assigned(key, field.get_default(call_default_factory=True), '  ')}"


def _with_choices(says: str, model: type[BaseModel], key: str) -> str:
    choices = model.model_json_schema()["properties"][key].get("enum")
    return f"{' | '.join(choices)}. {says}" if choices else says


def _commented(text: str, indent: str) -> str:
    return "\n".join(f"{indent}# {line}".rstrip() for line in _wrapped(text, WIDTH - len(indent) - 2))


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Yield lines: paragraphs are filled, indented lines and empty ones stay as they are."""
    paragraph: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        yield from textwrap.wrap(" ".join(paragraph), width, break_on_hyphens=False)
        paragraph = []
        yield line
    yield from textwrap.wrap(" ".join(paragraph), width, break_on_hyphens=False)


def _assigned(key: str, default: Any, indent: str) -> str:
    if isinstance(default, tuple) and default:
        return "\n".join([f"{indent}{key}:", *(f"{indent}  - {json.dumps(one)}" for one in default)])
    return f"{indent}{key}: {_scalar(default)}"


def _scalar(value: Any) -> str:
    if value in ((), {}):
        return "[]" if value == () else "{}"
    return value if isinstance(value, str) else json.dumps(value)


def _default(key: str, default: Any) -> Any:
    """Return a default as the file has it: what depends on the machine is null there."""
    return None if key in ("models", "data_dir", "cache_dir", "runtime_dir") else default


def reference() -> str:
    """Return the page."""
    parts = [REFERENCE_HEAD]
    for key, field in Config.model_fields.items():
        default = _default(key, field.get_default(call_default_factory=True))
        if isinstance(default, BaseModel):
            parts.append(f"## {key}\n\n{_filled(documented(Config)[key])}\n")
            parts += [_entry(f"{key}.{name}", type(default), name) for name in type(default).model_fields]
        else:
            parts.append(_entry(key, Config, key).replace("### ", "## ", 1))
    parts += [_outside(), _environment()]
    return "\n".join(parts)


def _entry(title: str, model: type[BaseModel], key: str) -> str:
    default = _default(key, model.model_fields[key].get_default(call_default_factory=True))
    shown = ", ".join(default) if isinstance(default, tuple) else default
    written = "[]" if default == () else _scalar(shown)
    restart = " Holds from the next start on." if title in RESTART else ""
    return (
        f"### `{title}`\n\nDefault `{written}`{_allowed(model, key)}.{restart}\n\n{_filled(documented(model)[key])}\n"
    )


def _allowed(model: type[BaseModel], key: str) -> str:
    schema = model.model_json_schema()["properties"][key]
    if choices := schema.get("enum"):
        return f"; one of {', '.join(f'`{one}`' for one in choices)}"
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is None:
        return ""
    least = f"more than {low:,}" if "exclusiveMinimum" in schema else f"at least {low:,}"
    return f"; {least}" if high is None else f"; {least}, at most {high:,}"


def _filled(text: str) -> str:
    """Return a text as Markdown, where what is indented is code, and stands between empty lines."""
    lines: list[str] = []
    for line in _wrapped(text, WIDTH + 20):
        is_code = line.startswith(" ")
        if lines and is_code != lines[-1].startswith(" "):
            lines.append("")
        lines.append(f"  {line}" if is_code else line)
    return "\n".join(lines)


def _outside() -> str:
    variables = [f"| `{name}` | | `{'.'.join(place)}` |" for name, place in ENVIRONMENT.items()]
    credentials = [f"| | `{name}` | `{'.'.join(place)}` |" for name, place in CREDENTIALS.items()]
    rows = "\n".join(variables + credentials)
    return (
        "## From outside the file\n\nWhat is secret, or differs by machine, may come from the environment, or from a credential of systemd "
        "(`LoadCredential=`, which\n[the shipped units](service.md) have):\n\n"
        f"| variable | credential | key |\n|---|---|---|\n{rows}\n\n"
        "`lookalike` reads `LOOKALIKE_SOCKET` too, and `LOOKALIKE_TIMEOUT`, the default of its `--timeout` in seconds.\n"
        "`LOOKALIKE_DAEMON_USER` names a user (name or number) whose daemon `lookalike` may ask as well, beside yours, root's and the\n"
        "machine's service. It is for a daemon of somebody else whose `api.group` you are in.\n"
    )


def _environment() -> str:
    return ENVIRONMENT_SECTION.format(kept=_rows(MAY_ACT), downloads=_rows(MAY_ACT_ON_DOWNLOADS))


def _rows(rules: tuple[Rule, ...]) -> str:
    return "\n".join(
        f"| {', '.join(f'`{name}`' for name in rule.names)} | {rule.reader} | {rule.reason} |" for rule in rules
    )


def documented(model: type[BaseModel]) -> dict[str, str]:
    """Return what is said of each key of a model: the string below it in the source."""
    tree = ast.parse(inspect.getsource(config))
    (definition,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == model.__name__)
    says = {}
    for node, following in zip(definition.body, definition.body[1:], strict=False):
        match node, following:
            case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                says[key] = inspect.cleandoc(text)
    return says


if __name__ == "__main__":
    main()
