"""lookalike compare."""

import json
import shutil
from typing import TYPE_CHECKING

import typer

from cli import output
from cli.client import Client, Query, Reply
from cli.commands.options import AsJson, Limit, Models, Socket, Terms, TimeoutSeconds, bounded, connect
from cli.errors import CliError
from cli.files import give_up_after
from cli.photo import find_similar, repeatable
from cli.report.search import search_notices
from cli.terms import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.answers import ComparisonAnswer, Model

HELP = """
Ask several models the same, and show their answers side by side.

QUERY is what lookalike search takes: an image file, - for standard input, a text, or several of them with + and -. By
text, only models that understand it can be compared. Without --model those of the library are that can answer, at most
four of them.

Where the terminal is too narrow for lists side by side, they stand below one another. Each holds scores and paths, the most similar photo first; of copies one is shown. A score is what the model's
metric says, and two models' scores cannot be compared: their order can. A photo that every list holds is marked *,
and the last lines say how many there are, as a share of the longest list. The photo that was asked about is first in
every list, and is not counted.

\b
Examples:
  lookalike compare cat.jpg
  lookalike compare cat.jpg --model efficientnet-lite0 --model clip-vit-b32 -n 20
  lookalike compare cat.jpg --json | jq .overlap.share
"""

_UNDERSTAND_TEXT = ("clip-vit-b32", "siglip2-base")
"""Shipped models that can be pulled to be asked by text."""

_MOST_MODELS = 4
_FEWEST_MODELS = 2


def compare(
    query: Terms,
    *,
    limit: Limit = None,
    model: Models = None,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    # Every command waits for what is imported above.
    from cli.report.compare import compare_lines, overlap, overlap_lines  # noqa: PLC0415

    named = list(dict.fromkeys(model or ()))
    if model and not _FEWEST_MODELS <= len(named) <= _MOST_MODELS:
        raise typer.BadParameter(f"compare takes {_FEWEST_MODELS} to {_MOST_MODELS} models.")
    give_up_after(bounded(timeout_seconds))
    terms = [repeatable(term) for term in parse(query)]
    with connect(socket, timeout_seconds) as client:
        models = _models(client, named, by_text=any(term.kind == "text" for term in terms))
        answers = [find_similar(client, terms, Query(limit, (name,))).answer for name in models]
    if as_json:
        answer: ComparisonAnswer = {"schema": 1, "models": answers, "overlap": overlap(answers)}
        output.as_json(Reply(answer, json.dumps(answer).encode("ascii")))
        return
    if any(answer["results"] for answer in answers):
        output.lines([*compare_lines(answers, width=shutil.get_terminal_size().columns), "", *overlap_lines(answers)])
    for sentence in search_notices(answers):
        output.notice(sentence)


def _models(client: Client, named: list[str], *, by_text: bool) -> list[str]:
    """Return the models to ask: those that are named, or those of the library that can answer, the first where there are many.

    CliError where fewer than two could. Whether one that is named can, the daemon says.
    """
    if named and not by_text:
        return named
    # An earlier daemon does not say which understand text, and refuses those that do not.
    models = client.status().answer["models"]
    able = [model["name"] for model in models if not by_text or model.get("text", True)]
    if len(able) < _FEWEST_MODELS:
        raise CliError(_too_few_for_text(models, able) if by_text else _too_few(able))
    if len(able) > _MOST_MODELS and not named:
        output.notice(f"{len(able)} models can answer; these are the first {_MOST_MODELS}, choose with --model")
    return named or able[:_MOST_MODELS]


def _too_few(models: list[str]) -> str:
    return (
        f"a comparison needs two models, and this library has {', '.join(models) or 'none'}; add another to 'models' in the"
        " configuration (lookalike models lists them)"
    )


def _too_few_for_text(models: "Sequence[Model]", able: list[str]) -> str:
    names = {model["name"] for model in models}
    lacking = [name for name in _UNDERSTAND_TEXT if name not in names] or ["another one"]
    who, word, them = (f"here only {able[0]}", " or ", "it") if able else ("no model here", " and ", "them")
    return (
        f"{who} understands text, and a comparison needs two models that do; pull"
        f" {word.join(lacking)} (lookalike models pull NAME), and add {them} to 'models' in the configuration"
    )
