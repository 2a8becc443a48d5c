"""Small ONNX files as others export them: outputs and inputs of every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

CLASSES = 4
SHAPE = (3, 8, 8)

# How logits [n, 4] called `l` (and probabilities and the like) become the outputs of a file.
OUTPUTS = {
    "plain": ("float[n, 4] scores", "scores = Identity(l)"),
    "1x1": (
        "float[n, 4, 1, 1] scores",
        "a = Constant<value_ints = [2, 3]>()\nscores = Unsqueeze(l, a)",
    ),
    "row": ("float[n, 1, 4] scores", "a = Constant<value_ints = [1]>()\nscores = Unsqueeze(l, a)"),
    "label and probabilities": (
        "int64[n] label, float[n, 4] probabilities",
        "label = ArgMax<axis = 1, keepdims = 0>(l)\nprobabilities = Softmax<axis = 1>(l)",
    ),
    "two": ("float[n, 4] a, float[n, 4] b", "a = Neg(l)\nb = Identity(l)"),
    "two, one called logits": (
        "float[n, 4] aux, float[n, 4] logits",
        "aux = Neg(l)\nlogits = Identity(l)",
    ),
    "label": ("int64[n] label", "label = ArgMax<axis = 1, keepdims = 0>(l)"),
    "bool": ("bool[n, 4] yes", "z = Constant<value_float = 0.0>()\nyes = Greater(l, z)"),
    "scalar": ("float loss", "loss = ReduceMean<keepdims = 0>(l)"),
    "one row": (
        "float[1, 4] mean",
        "a = Constant<value_ints = [0]>()\nmean = ReduceMean<keepdims = 1>(l, a)",
    ),
    "string": (
        "string[n] name",
        "i = ArgMax<axis = 1, keepdims = 0>(l)\n"
        "name = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1, 2, 3], "
        'values_strings = ["a", "b", "c", "d"]>(i)',
    ),
    "zipmap": (
        "seq(map(int64, float)) probabilities",
        "p = Softmax<axis = 1>(l)\n"
        "probabilities = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1, 2, 3]>(p)",
    ),
    "dropout": (
        "float[n, 4] scores",
        "half = Constant<value_float = 0.5>()\nyes = Constant<value = bool {1}>()\n"
        "scores = Dropout(l, half, yes)",
    ),
    "noise": ("float[n, 4] scores", "r = RandomNormalLike(l)\nscores = Add(l, r)"),
    # Runs for as long as it is let.
    "loop": ("float[n, 4] scores", "LOOP"),
}
LOOP = """
yes = Constant<value = bool {1}>()
scores = Loop<body = body (int64 i, bool go, float[n, 4] x) => (bool again, float[n, 4] y) {
    again = Identity(go)
    y = Neg(x)
}>(, yes, l)
"""
# How the images `x` become float32 [n, 3, 8, 8], called `f`.
INPUTS = {
    "float32": ("float[n, 3, 8, 8] x", "f = Identity(x)"),
    "float16": ("float16[n, 3, 8, 8] x", "f = Cast<to = 1>(x)"),
    "uint8": (
        "uint8[n, 3, 8, 8] x",
        "c = Cast<to = 1>(x)\ns = Constant<value_float = 255.0>()\nf = Div(c, s)",
    ),
    "nhwc": ("float[n, 8, 8, 3] x", "f = Transpose<perm = [0, 3, 1, 2]>(x)"),
    "int64": ("int64[n, 3, 8, 8] x", "f = Cast<to = 1>(x)"),
}


def weights() -> NDArray[np.float32]:
    """[3, 4]: class c is right where channel c is bright; the last where none is."""
    return np.concatenate([4 * np.eye(3), np.full((3, 1), 0.5)], axis=1).astype(np.float32)


def save(path: Path, output: str = "plain", entry: str = "float32") -> Path:
    """A classifier of 8x8 images by the mean of their channels."""
    outputs, nodes = OUTPUTS[output]
    given, first = INPUTS[entry]
    model = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18, "ai.onnx.ml" : 3]>
        g ({given}) => ({outputs}) {{
            {first}
            axes = Constant<value_ints = [2, 3]>()
            m = ReduceMean<keepdims = 0>(f, axes)
            l = MatMul(m, w)
            {LOOP if nodes == "LOOP" else nodes}
        }}"""
    )
    model.graph.initializer.append(numpy_helper.from_array(weights(), "w"))
    onnx.save(model, path)
    return path
