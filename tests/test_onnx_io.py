"""compress.onnx_io: images as a file takes them, and which output its answers are."""

from __future__ import annotations

import numpy as np
import pytest

from compress.errors import ModelFileError, UnknownName
from compress.onnx_file import Value
from compress.onnx_io import answers_of, image_form, rows_of

A, B = Value("a", "float32", (2, 4)), Value("b", "float32", (2, 4))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 1, 1), (2, 1, 4), (2, 1)])
def test_dimensions_of_one_are_dropped(shape: tuple[int, ...]) -> None:
    value = Value("y", "float16", shape)
    assert answers_of([value], "m.onnx") == (value, "")
    values = np.arange(np.prod(shape), dtype=np.float16).reshape(shape)
    assert rows_of(values, 2, value, "m.onnx").shape == (2, np.prod(shape[1:]))


def test_a_squeeze_of_every_one_leaves_one_image_its_row() -> None:
    assert rows_of(np.arange(4.0), 1, A, "m.onnx").shape == (1, 4)


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 4, 7), (2,), ()])
def test_other_rows_than_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFileError, match="answers 2 images with 'a' of shape"):
        rows_of(np.zeros(shape), 2, A, "m.onnx")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Value("y", "int64", (2,)), "is int64: perhaps labels, but not logits"),
        (Value("y", "str", (2,)), "is str: perhaps labels"),
        (Value("y", "bool", (2, 4)), "is bool"),
        (Value("y", "float32", ()), "has no row per image"),
        (Value("y", "float32", (2, 4, 7, 7)), "is a map and not a row of logits"),
        (Value("y", "sequence", None), "zipmap=False"),
        (Value("y", "float32", (1, 4)), "has 1 rows for 2 images"),
    ],
)
def test_what_is_no_answer_is_named_with_what_to_do(value: Value, said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        answers_of([value], "m.onnx", rows=2)
    with pytest.raises(ModelFileError, match=said):
        answers_of([value, A], "m.onnx", "y", rows=2)


def test_of_several_outputs_the_one_that_is_asked_for_or_called_so_is_taken() -> None:
    with pytest.raises(ModelFileError, match=r"2 outputs .*'a' .*'b' .*--output-name"):
        answers_of([A, B], "m.onnx")
    assert answers_of([A, B], "m.onnx", "b") == (B, "")
    with pytest.raises(UnknownName, match="There is no output 'c'"):
        answers_of([A, B], "m.onnx", "c")
    label = Value("label", "int64", (2,))
    taken, note = answers_of([label, A], "m.onnx")
    assert taken is A
    assert note == "The output 'a' (float32 [2, 4]) of m.onnx is used, not 'label' (int64 [2])."
    logits, probabilities = (
        Value("Logits", "float32", (2, 4)),
        Value("probabilities", "float32", (2, 4)),
    )
    assert answers_of([A, probabilities, logits], "m.onnx")[0] is logits
    assert answers_of([A, probabilities], "m.onnx")[0] is probabilities


def test_images_are_given_as_the_file_takes_them() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    last = image_form(Value("x", "float32", ("n", 4, 5, 3)), "m.onnx")
    assert last.channels_last
    assert last.sizes == (3, 4, 5)
    np.testing.assert_array_equal(last.of(images), images.transpose(0, 2, 3, 1))
    assert not image_form(Value("x", "float32", ("n", 3, 4, 3)), "m.onnx").channels_last
    pixels = image_form(Value("x", "uint8", (7, 3, 4, 5)), "m.onnx")
    assert pixels.takes_bytes
    assert pixels.batch == 7
    np.testing.assert_array_equal(pixels.of(images), np.rint(images * 255).astype(np.uint8))
    assert pixels.of(images + 3).max() == 255
    half = image_form(Value("x", "float16", ("n", 3, 4, 5)), "m.onnx")
    assert half.of(images).dtype == np.float16


@pytest.mark.parametrize(
    "value",
    [Value("x", "int64", ("n", 3, 4, 5)), Value("x", "float32", ("n", 3)), Value("x", "map", None)],
)
def test_what_takes_no_images_is_refused(value: Value) -> None:
    with pytest.raises(ModelFileError, match=r"m\.onnx takes 'x'"):
        image_form(value, "m.onnx")
