"""Words for photos over real weights, all from installed packages: a classifier, a sentence encoder, and class names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from daemon.encode.encoder import Encoder, load_encoders
from daemon.encode.images import decode
from daemon.encode.models import load_spec, prepare
from daemon.encode.text import TextEncoder
from daemon.encode.words import class_vectors

if TYPE_CHECKING:
    from daemon.encode.models import Model

PACS = Path(__file__).parents[4] / "shared" / "photos" / "pacs"
SPEC = Path(__file__).parents[3] / "configs" / "models" / "words.yaml"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The shipped classifier's graph, and the words for what it sees."""
    directory = tmp_path_factory.mktemp("words")
    return prepare(load_spec(SPEC), directory / "cache", directory / "models")


@pytest.fixture(scope="module")
def encoder_of_both(model: Model, words: Model) -> Encoder:
    """One graph, for the vectors of features and for those of words."""
    (encoder,) = load_encoders([model, words], threads=1)
    return encoder


@pytest.fixture(scope="module")
def text(words: Model) -> TextEncoder:
    return TextEncoder(words, threads=1)


def sample_photos() -> dict[str, Image.Image]:
    """Return the photographs that come with scikit-image and scikit-learn, by name."""
    names = (
        "astronaut",
        "brick",
        "camera",
        "chelsea",
        "coffee",
        "coins",
        "grass",
        "gravel",
        "moon",
        "retina",
        "rocket",
    )
    photos = {name: Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in names}
    return photos | {
        name: Image.fromarray(sklearn.datasets.load_sample_image(f"{name}.jpg")) for name in ("china", "flower")
    }


@pytest.fixture(scope="module")
def described(encoder_of_both: Encoder, words: Model) -> dict[str, np.ndarray]:
    """The vectors of words for the sample photos, by name."""
    photos = sample_photos()
    inputs = [encoder_of_both.preprocess(photo) for photo in photos.values()]
    return dict(zip(photos, encoder_of_both.encode(inputs)[words.version], strict=True))


@pytest.mark.parametrize(
    ("query", "photo"),
    [
        ("cat", "chelsea"),
        ("kitten", "chelsea"),
        ("coffee", "coffee"),
        ("espresso", "coffee"),
        ("rocket", "rocket"),
        ("spaceship", "rocket"),
        ("flower", "flower"),
        ("palace", "china"),
        ("temple", "china"),
    ],
)
def test_a_word_finds_the_photo_of_what_it_means_first(
    described: dict[str, np.ndarray], text: TextEncoder, query: str, photo: str
) -> None:
    row = text.encode(query)
    assert max(described, key=lambda name: float(described[name] @ row)) == photo


def test_words_for_a_photo_are_the_mixture_of_its_ten_most_likely_names(
    encoder_of_both: Encoder, model: Model, words: Model, described: dict[str, np.ndarray]
) -> None:
    assert words.projection
    with np.load(words.projection) as arrays:
        weight, bias, vectors = (arrays[name].astype(np.float64) for name in ("weight", "bias", "vectors"))
    photo = encoder_of_both.preprocess(sample_photos()["coffee"])
    # The graph's features are not of length 1; the vector of the other model is, which the logits do not survive.
    features = encoder_of_both._session.run({encoder_of_both._input: photo[np.newaxis]}, ["features"])["features"][0]
    logits = features @ weight + bias
    probabilities = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-probabilities)[:10]
    assert best[0] == 967  # espresso
    expected = probabilities[best] @ vectors[best]
    np.testing.assert_allclose(described["coffee"], expected / np.linalg.norm(expected), atol=1e-4)
    alone = Encoder([model], threads=1).encode_query(photo)[model.version]
    np.testing.assert_array_equal(encoder_of_both.encode_query(photo)[model.version], alone)


def test_vectors_of_classes_are_rows_of_length_one_in_the_order_of_the_names(text: TextEncoder) -> None:
    rows = class_vectors(["tench", "goldfish", "tench"], text.encode)
    assert (rows.shape, rows.dtype) == ((3, 384), np.dtype(np.float32))
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[1], text.encode("goldfish"))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@pytest.mark.skipif(not PACS.is_dir(), reason=f"there is no collection of photos at {PACS}")
def test_names_of_classes_find_their_photos_among_hundreds(
    encoder_of_both: Encoder, words: Model, text: TextEncoder
) -> None:
    labels, inputs = [], []
    for path in sorted(PACS.glob("*/*.jpg")):
        photo = decode(path.read_bytes(), str(path), min_side=encoder_of_both.min_side, max_pixels=10**8)
        labels.append(path.parent.name)
        inputs.append(encoder_of_both.preprocess(photo.image))
    rows = encoder_of_both.encode(inputs)[words.version]
    at_ten, average = [], []
    for label in sorted(set(labels)):
        relevant = np.array(labels)[np.argsort(-(rows @ text.encode(label)))] == label
        precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        at_ten.append(precision[9])
        average.append(precision[relevant].mean())
    # Measured: 0.986 and 0.856. Without the template 0.871 and 0.775, most of the first lost by one class, person.
    assert np.mean(at_ten) > 0.94
    assert np.mean(average) > 0.82
