"""lookalike compare."""

import json
import shutil
from typing import TYPE_CHECKING

import typer

from cli import output
from cli.client import Client, Query, Reply
from cli.commands.options import AsJson, Limit, Models, Socket, Terms, TimeoutSeconds, connect
from cli.errors import CliError
from cli.photo import find_similar, repeatable
from cli.report.search import search_notices
from cli.terms import parse

if TYPE_CHECKING:
    from cli.answers import ComparisonAnswer

HELP = """
Ask several models the same, and show their answers side by side.

QUERY is what lookalike search takes: an image file, - for standard input, a text, or several of them with + and -. By
text, only models that understand it can be compared. Without --model the models of the library are, at most four.

Each list holds scores and paths, the most similar photo first; of copies one is shown. A score is what the model's
metric says, and two models' scores cannot be compared: their order can. A photo that every list holds is marked *,
and the last lines say how many there are, as a share of the longest list. The photo that was asked about is first in
every list, and is not counted.

\b
Examples:
  lookalike compare cat.jpg
  lookalike compare cat.jpg --model efficientnet-lite0 --model clip-vit-b32 -n 20
  lookalike compare cat.jpg --json | jq .overlap.share
"""

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
    terms = [repeatable(term) for term in parse(query)]
    with connect(socket, timeout_seconds) as client:
        models = named or _models(client)
        answers = [find_similar(client, terms, Query(limit, (name,))).answer for name in models]
    if as_json:
        answer: ComparisonAnswer = {"schema": 1, "models": answers, "overlap": overlap(answers)}
        output.as_json(Reply(answer, json.dumps(answer).encode("ascii")))
        return
    if any(answer["results"] for answer in answers):
        output.lines([*compare_lines(answers, width=shutil.get_terminal_size().columns), "", *overlap_lines(answers)])
    for sentence in search_notices(answers):
        output.notice(sentence)


def _models(client: Client) -> list[str]:
    """Return the names of the library's models, the first of them where there are many."""
    names = [model["name"] for model in client.status().answer["models"]]
    if len(names) < _FEWEST_MODELS:
        raise CliError(f"a comparison needs two models, and this library has {', '.join(names) or 'none'}")
    return names[:_MOST_MODELS]
