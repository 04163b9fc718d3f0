"""How well each model finds what belongs together: a folder of photos with one sub-folder per class, each photo a query.

The whole product is asked: the photos are copied and indexed by `lookaliked` with all models live, and every query goes through its
socket. A photo asks by its path, and those of its class are relevant, itself and its exact copies left out; the name of a class asks
in words those models that understand text. Mean average precision takes the whole ranking, which only a FLAT index gives;
P@1 and P@10 are measured again with the index that the embedded stores have by default.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.common import Daemon, arguments, conclude, places, table
from benchmarks.labelled import copied
from benchmarks.relevance import average_precision, precision_at
from cli.client import Query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.common import Places
    from benchmarks.labelled import Labelled
    from cli.answers import SearchAnswer
    from cli.client import Client

MODELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "words")
FUSED = ("efficientnet-lite0+words", "efficientnet-lite0+efficientnet-lite2")
NEAREST = 10
MAX_LIMIT = 16_384
"""The most photos that an answer may be made to list: `search.max_limit` in the configuration."""
FLOAT_BYTES = 4
FLAT = {"milvus": {"index": "FLAT"}}


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a query of one class: the ids of the nearest ten, and of each photo ranked whether it is relevant."""

    label: str
    nearest: frozenset[str]
    ranking: Sequence[bool]
    relevant: int

    @property
    def average_precision(self) -> float:
        return average_precision(self.ranking, self.relevant)

    def precision_at(self, ranks: int) -> float:
        return precision_at(ranks, self.ranking)


@dataclass(frozen=True, slots=True)
class Answers:
    """What one daemon answered, by model or models fused: to every photo, and to the name of every class."""

    dims: Mapping[str, int]
    images: Mapping[str, Sequence[Found]]
    texts: Mapping[str, Sequence[Found]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the queries, of the whole exact ranking and (`default_`) of the first ten by the default index."""

    mean_average_precision: float
    p_at_1: float
    p_at_10: float
    default_p_at_1: float
    default_p_at_10: float
    default_recall_at_10: float
    """The share of the exact nearest ten that the default index finds."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("photos", type=Path, help="a folder with one sub-folder of photos per class; they are copied")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL")
    parser.add_argument("--fuse", nargs="*", default=FUSED, metavar="MODEL+MODEL", help="models to fuse by rank")
    parser.add_argument("--per-class", type=int, help="only the first so many photos of each class")
    settings = parser.parse_args()
    with places() as where:
        folder = where.folder("photos")
        labelled = copied(settings.photos, folder, settings.per_class)
        whole = len(labelled.photos)
        if whole > MAX_LIMIT:
            raise SystemExit(f"{whole:,} photos are more than an answer may list; take --per-class")
        asked = [*settings.models, *settings.fuse]
        exact = _answers(where, "data-flat", labelled, settings.models, asked, max(whole, NEAREST + 1), FLAT)
        default = _answers(where, "data-default", labelled, settings.models, asked, NEAREST + 1, {})
    _tell(labelled, exact, default)
    scores = {
        kind: {
            name: asdict(_scores(found, getattr(default, kind)[name])) for name, found in getattr(exact, kind).items()
        }
        for kind in ("images", "texts")
    }
    conclude("quality", settings, {"dims": exact.dims, "photos": whole, **scores, "by class": _by_class(exact)}, [])


def _answers(
    where: Places,
    name: str,
    labelled: Labelled,
    models: Sequence[str],
    asked: Sequence[str],
    limit: int,
    index: Mapping[str, object],
) -> Answers:
    """Index the photos with all models, and ask each of `asked`, models or models joined by +, everything."""
    settings = {"models": list(models), "search": {"max_limit": max(limit, 1000)}, **index}
    folder = where.root / "photos"
    with Daemon(where, name, folder, once=True, settings=settings) as daemon:
        daemon.ended()
    # What was written last is not in the vector index until the store has been flushed, as it is when the daemon ends.
    with Daemon(where, name, folder, settings=settings) as daemon, daemon.client() as client:
        daemon.up_to_date()
        readable = labelled.without({failure["path"] for failure in client.failures(None).answer["failures"]}).checked()
        status = client.status().answer
        if status["photos"] != len(readable.photos):
            raise SystemExit(f"{status['photos']:,} photos are indexed, of {len(readable.photos):,}")
        textual = [model["name"] for model in status["models"] if model.get("text")]
        return Answers(
            {model["name"]: model["dim"] for model in status["models"]},
            {one: _ask_photos(client, readable, Query(limit, tuple(one.split("+")))) for one in asked},
            {model: _ask_names(client, readable, Query(limit, (model,))) for model in textual},
        )


def _ask_photos(client: Client, labelled: Labelled, query: Query) -> list[Found]:
    answers = {path: client.search_path(path, os.stat(path), query).answer for path in labelled.photos.values()}
    # Its exact copies are files of the same photo.
    return [_found(answer, labelled, labelled.classes[path], left_out=1) for path, answer in answers.items()]


def _ask_names(client: Client, labelled: Labelled, query: Query) -> list[Found]:
    return [
        _found(client.search_terms([{"text": name.replace("_", " ")}], query).answer, labelled, name, left_out=0)
        for name in labelled.sizes
    ]


def _found(answer: SearchAnswer, labelled: Labelled, label: str, *, left_out: int) -> Found:
    results = [one for one in answer["results"] if one["id"] != answer["query"]["id"]]
    return Found(
        label,
        frozenset(one["id"] for one in results[:NEAREST]),
        [labelled.classes[one["paths"][0]] == label for one in results],
        labelled.sizes[label] - left_out,
    )


def _scores(exact: Sequence[Found], default: Sequence[Found]) -> Scores:
    return Scores(
        fmean(one.average_precision for one in exact),
        fmean(one.precision_at(1) for one in exact),
        fmean(one.precision_at(NEAREST) for one in exact),
        fmean(one.precision_at(1) for one in default),
        fmean(one.precision_at(NEAREST) for one in default),
        fmean(len(one.nearest & two.nearest) / len(one.nearest) for one, two in zip(exact, default, strict=True)),
    )


def _by_class(answers: Answers) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean average precision of each class, by kind of query and by what answered."""
    return {
        kind: {
            name: {
                label: fmean(one.average_precision for one in found if one.label == label)
                for label in dict.fromkeys(one.label for one in found)
            }
            for name, found in by_name.items()
        }
        for kind, by_name in (("images", answers.images), ("texts", answers.texts))
    }


def _tell(labelled: Labelled, exact: Answers, default: Answers) -> None:
    head = ("", "numbers", "bytes", "mAP", "P@1", "P@10", "default P@1", "default P@10", "default recall@10")
    for title, found, by_default in (
        ("photos as queries", exact.images, default.images),
        ("names of classes as queries", exact.texts, default.texts),
    ):
        rows = [
            (name, dim or "", FLOAT_BYTES * dim or "", *asdict(_scores(found[name], by_default[name])).values())
            for name in found
            for dim in [exact.dims.get(name, 0)]
        ]
        table(f"{len(labelled.photos):,} photos, {len(labelled.sizes)} classes: {title}", head, rows)
    by_class = _by_class(exact)["texts"]
    rows = [(label, *(by_class[name][label] for name in by_class)) for label in labelled.sizes]
    table("mAP of the name of each class", ("", *by_class), rows)


if __name__ == "__main__":
    main()
