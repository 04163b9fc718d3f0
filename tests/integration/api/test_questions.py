"""Questions of several terms and to several models: real photos, real stores, and the two shipped models."""

from __future__ import annotations

import base64
import functools
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from daemon.api import app
from daemon.api.listening import UnixListener
from daemon.api.queries import Queries
from daemon.api.server import Server
from daemon.changes import PhotoInfo
from daemon.encode.images import decode
from daemon.index.index import Encoded, Index
from daemon.index.mappings import Add, Remove
from daemon.index.search import Search
from tests.integration.api.conftest import Client, library_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.encode.encoder import Encoder
    from daemon.encode.models import Model
    from daemon.encode.text import TextEncoder

LITE, WORDS = "efficientnet-lite0", "words"
# china: a palace; flower: a dahlia; chelsea: a cat; the last four are none of the things of ImageNet, or hardly.
NAMES = ("china", "flower", "chelsea", "coffee", "rocket", "astronaut", "camera", "moon", "page")
CANDIDATES = {"clip-vit-b32": False, "siglip2-base": False, WORDS: False}


@cache
def jpeg(name: str) -> bytes:
    pixels = (
        sklearn.datasets.load_sample_image(f"{name}.jpg")
        if name in {"china", "flower"}
        else getattr(skimage.data, name)()
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def rows(encoder: Encoder, name: str) -> dict[str, NDArray[np.float32]]:
    image = decode(jpeg(name), name, min_side=encoder.min_side, max_pixels=10**8).image
    return encoder.encode_query(encoder.preprocess(image))


@pytest.fixture(scope="module")
def vectors(models: dict[str, Model], encoders: list[Encoder]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return the vectors of each photo, by the name of the model."""
    (encoder,) = encoders
    return {
        name: {model.spec.name: found[model.version] for model in models.values()}
        for name in NAMES
        for found in [rows(encoder, name)]
    }


def path_of(name: str) -> str:
    return f"/photos/{name}.jpg"


def fill(index: Index, photos: Any, vectors: dict[str, Any], names: Sequence[str]) -> None:
    """Put photos into every collection of the index."""
    for name in names:
        data = jpeg(name)
        info = PhotoInfo(blake3.blake3(data).hexdigest(), 640, 480, "JPEG", "", len(data))
        found = {collection.version: vectors[name][collection.model] for collection in index.collections}
        index.commit([Encoded(Add(path_of(name), photos.stat(), info), found)])


@pytest.fixture
def library(stores: Any, models: dict[str, Model], photos: Any, vectors: dict[str, Any], kit: Any) -> Iterator[Index]:
    index = library_of(stores, list(models.values()))
    index.recover()
    fill(index, photos, vectors, NAMES)
    yield index
    kit.drop(index)


class Served:
    """Serves a library, and asks it."""

    def __init__(self, index: Index, encoders: Sequence[Any], texts: dict[str, TextEncoder], directory: Path) -> None:
        queries = Queries(
            index,
            Search(index, lambda _: True),
            {version: encoder for encoder in encoders for version in encoder.versions},
            texts,
            lambda _: False,
            text_models=("clip-vit-b32", WORDS),
            text_candidates=lambda: CANDIDATES,
            max_limit=50,
            decode=functools.partial(decode, max_pixels=10**8),
        )
        unasked: Any = None
        application = app.build(queries, unasked, unasked, unasked, max_bytes=10**7, default_limit=50)
        self._client = Client(directory / "s")
        self.server = Server(application, UnixListener(directory / "s"))

    def post(self, *terms: Any, target: str = "") -> tuple[int, dict[str, Any]]:
        body = json.dumps({"terms": terms}).encode()
        return self._client("POST", f"/v1/search{target}", body, "application/json")

    def ask(self, *terms: Any, target: str = "") -> dict[str, Any]:
        status, answer = self.post(*terms, target=target)
        assert status == 200, answer
        return answer

    def names(self, *terms: Any, target: str = "") -> list[str]:
        return [
            result["paths"][0].removeprefix("/photos/").removesuffix(".jpg")
            for result in self.ask(*terms, target=target)["results"]
        ]

    def refusal(self, *terms: Any, target: str = "") -> tuple[int, str, str]:
        status, answer = self.post(*terms, target=target)
        return status, answer["error"]["code"], answer["error"]["message"]

    def bytes(self, data: bytes, target: str = "") -> tuple[int, dict[str, Any]]:
        return self._client("POST", f"/v1/search{target}", data, "image/jpeg")


@pytest.fixture
def served(library: Index, encoders: list[Encoder], texts: dict[str, TextEncoder], directory: Path) -> Iterator[Served]:
    served = Served(library, encoders, texts, directory)
    served.server.start()
    yield served
    served.server.stop()


def path(name: str, weight: float = 1.0) -> dict[str, Any]:
    return {"path": path_of(name), "weight": weight}


def text(words: str, weight: float = 1.0) -> dict[str, Any]:
    return {"text": words, "weight": weight}


def image(data: bytes, weight: float = 1.0) -> dict[str, Any]:
    return {"image": base64.b64encode(data).decode(), "weight": weight}


@pytest.mark.parametrize(
    ("words", "name"),
    [("a rocket", "rocket"), ("cat", "chelsea"), ("espresso", "coffee"), ("a palace", "china"), ("flower", "flower")],
)
def test_a_text_finds_the_photo_that_shows_it(served: Served, words: str, name: str) -> None:
    answer = served.ask(text(words))

    assert answer["results"][0]["paths"] == [path_of(name)]
    assert (answer["model"], answer["metric"], answer["query"]) == (WORDS, "cosine", {"by": "text", "id": None})
    assert answer["models"] == [{"name": WORDS, "metric": "cosine", "photos": len(NAMES), "of": len(NAMES)}]
    assert answer["results"][0]["ranks"] == {}


def test_a_photo_and_itself_are_the_photo(served: Served) -> None:
    once, twice = served.ask(path("coffee")), served.ask(path("coffee"), path("coffee", 2))

    assert [result["id"] for result in once["results"]] == [result["id"] for result in twice["results"]]
    for one, two in zip(once["results"], twice["results"], strict=True):
        assert one["score"] == pytest.approx(two["score"], abs=1e-5)
    assert once["query"] == {"by": "terms", "id": once["results"][0]["id"]}
    assert twice["query"] == {"by": "terms", "id": None}


def test_what_is_subtracted_comes_last_and_what_is_added_stays(served: Served) -> None:
    names = served.names(path("china"), path("coffee", -1))

    assert (names[0], names[-1]) == ("china", "coffee")
    assert set(names) == set(NAMES)


def test_the_contrary_of_a_photo_ends_with_it(served: Served) -> None:
    assert served.names(path("rocket", -1))[-1] == "rocket"


def test_a_sum_is_that_of_unit_vectors_times_their_weights(
    served: Served, vectors: dict[str, dict[str, NDArray[np.float32]]]
) -> None:
    answer = served.ask(path("china"), image(jpeg("rocket"), 0.25), path("moon", -0.5))

    def of(name: str) -> NDArray[np.float32]:
        return vectors[name][LITE]

    total = of("china") + 0.25 * of("rocket") - 0.5 * of("moon")
    total /= np.linalg.norm(total)
    expected = {path_of(name): float(total @ of(name)) for name in NAMES}
    assert {result["paths"][0]: result["score"] for result in answer["results"]} == pytest.approx(expected, abs=1e-4)


def test_images_and_texts_are_combined_where_a_model_has_both(served: Served) -> None:
    assert set(served.names(path("rocket"), text("cat", 2))[:2]) == {"rocket", "chelsea"}
    assert served.names(text("cat"), path("chelsea", -1))[-1] == "chelsea"


def test_a_picture_in_base64_that_the_library_holds_is_known_by_its_content(served: Served, library: Index) -> None:
    answer = served.ask(image(jpeg("moon")))

    assert answer["results"][0]["paths"] == [path_of("moon")]
    assert answer["query"]["id"] == answer["results"][0]["id"]


@pytest.mark.parametrize("target", ["", f"?model={LITE}&model={WORDS}"])
def test_a_photo_that_no_file_holds_any_more_is_not_said_to_be_in_the_library(
    served: Served, library: Index, target: str
) -> None:
    # Between the two stores: its vectors are deleted next.
    library.mappings.apply([Remove(path_of("moon"))], [])

    answer = served.ask(image(jpeg("moon")), target=target)

    assert answer["query"]["id"] is None
    assert path_of("moon") not in [path for result in answer["results"] for path in result["paths"]]


def test_terms_that_leave_nothing_are_one_sentence(served: Served) -> None:
    for terms in ([path("china"), path("china", -1)], [image(jpeg("china"), 3), path("china", -3)]):
        assert served.refusal(*terms) == (
            400,
            "bad_request",
            "the terms cancel each other out, and nothing is left to be compared",
        )


def test_a_fusion_adds_the_reciprocals_of_the_ranks(served: Served) -> None:
    answer = served.ask(path("chelsea"), target="?fuse=rrf")

    single = {model: served.names(path("chelsea"), target=f"?model={model}") for model in (LITE, WORDS)}
    assert (answer["model"], answer["metric"]) == ("efficientnet-lite0+words", "rrf")
    assert [model["name"] for model in answer["models"]] == [LITE, WORDS]
    assert answer["results"][0]["ranks"] == {LITE: 1, WORDS: 1}
    for result in answer["results"]:
        name = result["paths"][0].removeprefix("/photos/").removesuffix(".jpg")
        assert result["ranks"] == {model: names.index(name) + 1 for model, names in single.items()}
        assert result["score"] == pytest.approx(sum(1 / (60 + rank) for rank in result["ranks"].values()), abs=1e-6)
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)


def test_several_models_that_are_named_are_fused_and_one_named_twice_is_one(served: Served) -> None:
    both = served.ask(path("moon"), target=f"?model={WORDS}&model={LITE}")
    one = served.ask(path("moon"), target=f"?model={WORDS}&model={WORDS}")

    assert (both["model"], both["metric"]) == ("words+efficientnet-lite0", "rrf")
    assert (one["model"], one["metric"]) == (WORDS, "cosine")


def test_a_fusion_for_a_text_leaves_out_models_that_understand_none(served: Served) -> None:
    answer = served.ask(text("a rocket"), target="?fuse=rrf")

    assert (answer["model"], answer["metric"]) == (WORDS, "rrf")
    assert answer["results"][0]["ranks"] == {WORDS: 1}


def test_a_fusion_looks_deeper_than_the_limit(served: Served) -> None:
    for limit in (1, 3):
        fused = served.names(path("page"), target="?fuse=rrf")
        assert served.names(path("page"), target=f"?fuse=rrf&limit={limit}") == fused[:limit]


def test_a_text_for_a_model_that_understands_none_names_one_that_does(served: Served) -> None:
    for target in (f"?model={LITE}", f"?model={LITE}&model={WORDS}"):
        assert served.refusal(text("cat"), target=target) == (
            422,
            "no_text_model",
            "efficientnet-lite0 cannot be asked by text; ask words",
        )


def test_without_a_model_for_text_the_sentence_says_where_to_get_one(
    library: Index, encoders: list[Encoder], directory: Path
) -> None:
    served = Served(library, encoders, {}, directory)
    served.server.start()
    try:
        for target in ("", "?fuse=rrf", f"?model={LITE}"):
            assert served.refusal(path("china"), text("at night"), target=target) == (
                422,
                "no_text_model",
                (
                    "no model here understands text; pull one of clip-vit-b32, siglip2-base, or install"
                    " the extra text for words, and add it to 'models' in the configuration"
                ),
            )
    finally:
        served.server.stop()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("?fuse=sum", "bad_request"),
        ("?fuse=", "bad_request"),
        ("?limit=51", "bad_request"),
        ("?model=x", "unknown_model"),
    ],
)
def test_a_fusion_that_is_not_known_and_a_model_that_is_not_there_are_refused(
    served: Served, target: str, code: str
) -> None:
    assert served.refusal(path("china"), target=target)[1] == code


def test_a_picture_that_is_none_is_told_by_its_place(served: Served) -> None:
    assert served.refusal(path("china"), image(b"text")) == (
        422,
        "not_an_image",
        "term 2 cannot be used: the file is not an image: it is text",
    )


def test_a_picture_that_is_none_is_not_said_to_be_tried_again(served: Served) -> None:
    assert served.refusal(image(b""))[2] == "the query cannot be used: the file is empty"
    cut = jpeg("china")[: len(jpeg("china")) // 2]
    assert served.refusal(image(cut))[2] == "the query cannot be used: the image is cut short"


def test_a_limit_that_is_too_high_names_the_key_that_sets_it(served: Served) -> None:
    assert served.refusal(path("china"), target="?limit=51")[2] == (
        "the limit must be between 1 and 50 (search.max_limit in the configuration)"
    )


@pytest.fixture
def filling(stores: Any, models: dict[str, Model], photos: Any, vectors: dict[str, Any], kit: Any) -> Iterator[Index]:
    """A library that had one model, to which another was added: three photos have been encoded by it so far."""
    index = library_of(stores, list(models.values()))
    index.recover()
    fill(Index(index.mappings, index.vectors, index.collections[:1]), photos, vectors, NAMES[3:])
    fill(index, photos, vectors, NAMES[:3])
    yield index
    kit.drop(index)


def test_a_model_that_is_being_filled_answers_as_far_as_it_has_come_and_says_so(
    filling: Index, encoders: list[Encoder], texts: dict[str, TextEncoder], directory: Path
) -> None:
    served = Served(filling, encoders, texts, directory)
    served.server.start()
    try:
        answer = served.ask(text("a rocket"))
        assert len(answer["results"]) == 3
        assert answer["models"] == [{"name": WORDS, "metric": "cosine", "photos": 3, "of": len(NAMES)}]
        assert served.refusal(path("rocket"), target="?model=words") == (
            404,
            "not_in_library",
            "words has not encoded /photos/rocket.jpg yet; send its bytes",
        )
        status, answer = served.bytes(jpeg("rocket"), "?model=words")
        assert (status, answer["query"]["by"]) == (200, "bytes")
        assert answer["results"][0]["paths"] == [path_of("rocket")]
    finally:
        served.server.stop()


def test_a_version_that_cannot_be_loaded_any_more_answers_for_what_is_stored(
    library: Index, texts: dict[str, TextEncoder], directory: Path
) -> None:
    served = Served(library, [], texts, directory)
    served.server.start()
    try:
        assert served.names(path("china"))[0] == "china"
        assert served.names(text("cat"))[0] == "chelsea"
        status, answer = served.bytes(jpeg("china")[:-2] + b"\xff\xd9\x00")
        assert (status, answer["error"]["code"]) == (503, "unavailable")
    finally:
        served.server.stop()


def test_a_picture_goes_through_a_graph_once_for_all_models_that_read_it(
    library: Index, encoders: list[Encoder], texts: dict[str, TextEncoder], directory: Path, kit: Any
) -> None:
    calls: list[str] = []
    served = Served(library, [kit.recorded(encoders[0], before=calls.append)], texts, directory)
    served.server.start()
    try:
        status, answer = served.bytes(jpeg("china")[:-2] + b"\xff\xd9\x00", "?fuse=rrf")
    finally:
        served.server.stop()
    assert (status, answer["results"][0]["paths"]) == (200, [path_of("china")])
    assert calls.count("encode_query") == 1


class Poisoned:
    """An encoder that raises at one of the things it is asked for."""

    def __init__(self, encoder: Encoder, at: str, raised: BaseException) -> None:
        self._encoder = encoder
        self._at = at
        self._raised = raised

    def __getattr__(self, name: str) -> Any:
        if name != self._at:
            return getattr(self._encoder, name)

        def fail(*_: object) -> None:
            raise self._raised

        return fail


class Panic(BaseException):
    """As libraries that are written in Rust raise one: no Exception."""


@pytest.mark.parametrize("at", ["preprocess", "encode_query"])
@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (MemoryError(), "not_an_image"),
        (KeyError("a\nb"), "not_an_image"),
        (Panic("index out of bounds"), "not_an_image"),
        (SystemExit(1), "not_an_image"),
        (RuntimeError("can't start new thread"), "unavailable"),
    ],
    ids=repr,
)
def test_a_query_picture_at_which_a_library_fails_gets_one_sentence(
    library: Index, encoders: list[Encoder], directory: Path, at: str, raised: BaseException, code: str
) -> None:
    served = Served(library, [Poisoned(encoder, at, raised) for encoder in encoders], {}, directory)
    served.server.start()
    try:
        _, answer = served.bytes(flat())
        assert answer["error"]["code"] == code
        message = answer["error"]["message"]
        assert "log" not in message.split()
        assert message.isprintable()
        assert served.names(path(NAMES[0]))[0] == NAMES[0], "the others are answered"
    finally:
        served.server.stop()


def flat() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(buffer, "JPEG")
    return buffer.getvalue()
