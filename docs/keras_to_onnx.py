# ruff: noqa: T201 - a script by itself, which speaks to who runs it.
"""Convert ResNet50 or VGG16 of Keras, without the top, to the ONNX graph that configs/models/resnet50.yaml or vgg16.yaml reads.

    python3 -m venv keras
    keras/bin/pip install tensorflow tf2onnx onnxruntime
    keras/bin/python docs/keras_to_onnx.py resnet50 --output resnet50.onnx

Tried with tensorflow-cpu 2.21.0, Keras 3.15.1, tf2onnx 1.17.0 and onnxruntime 1.32.0 on Python 3.11.

The graph takes float32 [photos, 224, 224, 3], blue, green, red, less the means of ImageNet, as preprocess_input gives them,
and returns the last feature map, [photos, 7, 7, 2048] for resnet50 and [photos, 7, 7, 512] for vgg16. It is pooled by the
spec, so that one graph serves `pooling: max` and `pooling: avg`.

The script ends with both, Keras and onnxruntime, on the same photos, and with an error when they differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

ARCHITECTURES = {"resnet50": keras.applications.ResNet50, "vgg16": keras.applications.VGG16}
SIDE = 224
# The newest that both tf2onnx and a runtime of two years ago know.
OPSET = 17
# Of the greatest feature; both compute in float32, in another order.
TOLERANCE = 1e-3


def main() -> int:
    """Convert as the command line says; return 0 when the graph computes what Keras does, else 1."""
    arguments = parse()
    weights = None if arguments.weights == "none" else arguments.weights
    model = ARCHITECTURES[arguments.model](weights=weights, include_top=False, input_shape=(SIDE, SIDE, 3))
    convert(model, arguments.output)
    difference, greatest = compare(model, arguments.output)
    print(f"{arguments.output}: {model.output_shape}, differs from Keras by {difference:.2e}; greatest {greatest:.4g}")
    return 0 if difference <= TOLERANCE * max(1.0, greatest) else 1


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Convert ResNet50 or VGG16 of Keras to ONNX.")
    parser.add_argument("model", choices=sorted(ARCHITECTURES))
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloaded by Keras), the path of an .h5 file, or none (random, to try the conversion)",
    )
    return parser.parse_args()


def convert(model: Any, output: Path) -> None:
    """Write `model` to `output`, with any number of photos at a time."""
    # From a function: tf2onnx reads attributes of a Keras 2 model that one of Keras 3 has no more.
    signature = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="image")
    function = tf.function(lambda image: {"features": model(image, training=False)}, input_signature=[signature])
    tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET, output_path=str(output))


def compare(model: Any, graph: Path) -> tuple[float, float]:
    """Return the greatest difference between Keras and the graph over three photos of noise, and the greatest feature."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.float32)
    photos = keras.applications.imagenet_utils.preprocess_input(pixels, mode="caffe")
    expected = model.predict(photos, verbose=0)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {session.get_inputs()[0].name: photos})
    return float(np.abs(features - expected).max()), float(np.abs(expected).max())


if __name__ == "__main__":
    sys.exit(main())
