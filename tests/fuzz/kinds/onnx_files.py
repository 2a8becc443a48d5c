"""ONNX files: their bytes and fields, tensors in other files, metadata."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import SPECIAL, add_special
from tests.fuzz.stock import classifier
from tests.fuzz.values import DEEP, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("onnx file")
EVALUATE = "evaluate own.onnx --data data.npz --threads 1"
FP16 = "export own.onnx --output out.onnx --data data.npz --precision fp16"
INT8 = "export own.onnx --output out.onnx --data data.npz --precision int8"
BF16 = "export own.onnx --output out.onnx --data data.npz --precision bf16"
COPY = "export own.onnx --output out.onnx --data data.npz"
AUTO = "export own.onnx --output out.onnx --data data.npz --precision auto"
PROFILE = "profile own.onnx --batch 1 --threads 1"
UPDATE = "baseline update own.onnx --data data.npz --reason x -o out.json --threads 1"
CHECK = "check own.onnx --baseline baseline.json --data data.npz --max-seconds 0.1"
#: What an ONNX file is given to; those that measure take seconds and come rarely.
COMMANDS = (*(EVALUATE,) * 9, *(FP16, INT8) * 3, BF16, COPY, UPDATE, CHECK, PROFILE)
LARGE = (-1, 0, 1, 2, 7, 10**6, 10**12, 2**31, 2**62, -(2**62))


def words(bench: Bench, command: str = EVALUATE) -> list[str]:
    """The command's words, what it needs laid beside."""
    bench.copy("data.npz")
    if command == CHECK:
        for path in sorted(bench.stock.path("baseline").glob("baseline*")):
            bench.copy(f"baseline/{path.name}", path.name)
    return command.split()


def message_damaged(message: Message, rng: random.Random) -> None:
    """Changes one field somewhere in a message."""
    fields: list[tuple[Any, Any]] = message.ListFields()
    if not fields or rng.random() < 0.04:
        return
    field, value = rng.choice(fields)
    messages = field.type == field.TYPE_MESSAGE
    if field.is_repeated:
        at = rng.randrange(len(value))
        way = rng.random()
        if messages and way < 0.75:
            message_damaged(value[at], rng)
        elif way < 0.85:
            del value[at]
        elif messages:
            value.add().CopyFrom(value[at])
        elif way < 0.9:
            value.append(value[at])
        else:
            value[at] = _odd(field, value[at], rng)
    elif messages:
        if rng.random() < 0.93:
            message_damaged(value, rng)
        else:
            message.ClearField(field.name)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _odd(field, value, rng))


def _odd(field: Any, value: Any, rng: random.Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_BYTES:
        return damaged(value, rng)
    if field.cpp_type == field.CPPTYPE_STRING:
        return rng.choice(("", "x", "images", "logits", "kernel", "Loop", "If", "é" * 999, "../x"))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice([each.number for each in field.enum_type.values])
    if field.cpp_type == field.CPPTYPE_INT32:
        return rng.choice((-1, 0, 1, 2, 7, 10, 11, 16, 2**31 - 1, -(2**31)))
    return rng.choice(LARGE)


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Bytes, fields, metadata, or where tensors lie."""
    rng = bench.rng
    way = rng.random()
    model = classifier()
    if way < 0.25:
        other = bench.stock.path("teacher.safetensors").read_bytes()
        bench.write("own.onnx", damaged(model.SerializeToString(), rng, other))
        return words(bench, rng.choice(COMMANDS))
    if way < 0.35:
        entry = rng.choice(model.metadata_props)
        try:
            entry.value = to_json(damaged_values(json.loads(entry.value), rng))
        except (ValueError, UnicodeEncodeError):
            entry.value = "[" * rng.choice((3, 1000, DEEP))
    elif way < 0.45:
        folder = bench.copy("external")
        for path in folder.iterdir():
            path.rename(bench.files / path.name)
        model = onnx.load(bench.files / "model.onnx", load_external_data=False)
        tensor = rng.choice([t for t in model.graph.initializer if t.external_data])
        for entry in tensor.external_data:
            if rng.random() < 0.5:
                entry.value = rng.choice(
                    (
                        *map(str, LARGE),
                        "x",
                        "",
                        "1.5",
                        "model.onnx",
                        "/dev/zero",
                        "../model.data",
                        "nan",
                        ".",
                        "é",
                    )
                )
    else:
        for _ in range(rng.choice((1, 1, 2, 4))):
            message_damaged(model, rng)
    bench.write("own.onnx", model.SerializeToString())
    return words(bench, rng.choice(COMMANDS))


Change = Callable[[onnx.ModelProto], object]


def add(kind: Kind, name: str, change: Change, *commands: str, refused: bool = True) -> None:
    """Adds the classifier with a change, given to each of the commands.

    Args:
        kind: gets the cases.
        name: of the change.
        change: of the model; or gives the file's bytes.
        commands: that read it.
        refused: whether all of them have to refuse it.
    """
    for command in commands or (EVALUATE,):

        def make(bench: Bench, command: str = command) -> Sequence[str]:
            model = classifier()
            changed = change(model)
            content = changed if isinstance(changed, bytes) else model.SerializeToString()
            bench.write("own.onnx", content)
            return words(bench, command)

        told = " ".join(
            word
            for word in command.split()
            if word in ("evaluate", "fp16", "int8", "bf16", "auto", "profile", "update", "check")
        )
        kind.add(f"{name}, {told or 'export'}", make, refused=refused)


def _metadata(name: str, value: str, *, refused: bool = True) -> None:
    key = name.split()[0]

    def change(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == f"compress.{key}":
                entry.value = value
                return
        model.metadata_props.add(key=f"compress.{key}", value=value)

    add(KIND, f"metadata: {name}", change, EVALUATE, FP16, refused=refused)


_metadata("normalization 100,000 deep", "[" * DEEP)
_metadata("normalization of tables that nest", '{"mean":' * 3000 + "1" + "}" * 3000)
_metadata("normalization of NaN", '{"mean": [NaN], "std": [NaN]}')
_metadata("normalization of infinity", '{"mean": [Infinity], "std": [1]}')
_metadata("normalization of 0", '{"mean": [0], "std": [0]}')
_metadata("normalization of 10^400", '{"mean": [1' + "0" * 400 + '], "std": [1]}')
_metadata("normalization that is null", "null")
_metadata("normalization that is a number", "5")
_metadata("normalization of three channels", '{"mean": [0, 0, 0], "std": [1, 1, 1]}')
_metadata("normalization of texts", '{"mean": ["a"], "std": ["b"]}')
_metadata("normalization of 0 to 255", '{"mean": [127.5], "std": [63.75]}', refused=False)
_metadata("classes 100,000 deep", "[" * DEEP, refused=False)
_metadata("classes that are a number", "5", refused=False)
_metadata("classes that nest", '[["a"], {"b": 1}, null, 5]', refused=False)
_metadata("classes of other names", '["w", "x", "y", "z"]', refused=False)
_metadata("classes of 100,000", json.dumps(list(map(str, range(100_000)))), refused=False)
_metadata(
    "spec of width 10^12", '{"family": "wrn", "depth": 10, "width": 1000000000000}', refused=False
)
_metadata("spec 100,000 deep", "[" * DEEP, refused=False)
_metadata("spec that is a list", "[1]", refused=False)
_metadata("source 100,000 deep", "[" * DEEP, refused=False)
_metadata("source that is a list", "[1]", refused=False)
_metadata("toolchain that nests", '{"a": {"b": [1]}}', refused=False)
_metadata("precision that is unknown", "fp7", refused=False)
_metadata("fidelity of another form", '{"x": 1}', refused=False)
_metadata("conversion 100,000 deep", "[" * DEEP, refused=False)


def _external(name: str, /, *, refused: bool = True, **entries: str) -> None:
    """Adds a file whose first tensor lies elsewhere."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            {"location": "own.data", "offset": "0", "length": "216"} | entries
        ).items():
            tensor.external_data.add(key=key, value=value)

    for command in (EVALUATE, INT8):

        def make(bench: Bench, command: str = command) -> Sequence[str]:
            model = classifier()
            change(model)
            bench.write("own.onnx", model.SerializeToString())
            bench.write("own.data", bytes(216))
            (bench.files / "linked.data").symlink_to("/dev/zero")
            (bench.files / "outside.data").symlink_to("/etc/passwd")
            return words(bench, command)

        kind = "int8" if command == INT8 else "evaluate"
        KIND.add(f"external data: {name}, {kind}", make, refused=refused)


_external("an offset that is a text", offset="ten")
_external("an offset of -1", offset="-1")
_external("an offset of 10^12", offset=str(10**12))
_external("an offset of 10^30", offset=str(10**30))
_external("an offset of 1.5", offset="1.5")
_external("a length that is a text", length="long")
_external("a length of -1", length="-1")
_external("a length of 10^12", length=str(10**12))
_external("a length of 0", length="0", refused=False)
_external("a file at the root", location="/etc/passwd")
_external("a file outside of the folder", location="../../../../../../etc/passwd")
_external("a link to a file outside", location="outside.data")
_external("a link to /dev/zero", location="linked.data")
_external("/dev/zero itself", location="/dev/zero")
_external("no file", location="nothing.data")
_external("a file without a name", location="")
_external("a folder", location=".")
_external("the ONNX file itself", location="own.onnx", refused=False)
_external("a name with a zero", location="own\0.data")
_external("a name of 5,000 letters", location="x" * 5000)


def _special_data(what: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        folder = bench.copy("external")
        (folder / "model.onnx").rename(bench.files / "own.onnx")
        SPECIAL[what](bench.files / "model.data")
        return words(bench)

    KIND.add(f"{what} as external data", make)


for _what in SPECIAL:
    if _what != "a terabyte of nothing":
        _special_data(_what)

add_special(KIND, "own.onnx", lambda name: EVALUATE.replace("own.onnx", name).split(), "data.npz")
add_special(KIND, "own2.onnx", lambda name: ["profile", name, "--batch", "1", "--threads", "1"])


@KIND.by_hand("a checkpoint called .onnx", refused=False)
def checkpoint(bench: Bench) -> Sequence[str]:
    """The name says one thing, the bytes another."""
    bench.copy("teacher.pt", "own.onnx")
    return words(bench)


@KIND.by_hand("an ONNX file called .PB", refused=False)
def other_suffix(bench: Bench) -> Sequence[str]:
    """The same the other way round."""
    bench.copy("model.onnx", "own.onnx.PB")
    return words(bench, EVALUATE.replace("own.onnx", "own.onnx.PB"))


@KIND.by_hand("a name that is not UTF-8", refused=False)
def bytes_name(bench: Bench) -> Sequence[str]:
    """A byte that no text has."""
    bench.copy("model.onnx", "m\udce4.onnx")
    return words(bench, EVALUATE.replace("own.onnx", "m\udce4.onnx"))


@KIND.by_hand("threads of 1,000,000", refused=False)
def threads(bench: Bench) -> Sequence[str]:
    """More than a system has."""
    bench.copy("model.onnx", "own.onnx")
    return words(bench, EVALUATE.replace("--threads 1", "--threads 1000000"))


@KIND.by_hand("batches of 10^9", refused=True)
def batch(bench: Bench) -> Sequence[str]:
    """An input that no memory holds."""
    bench.copy("model.onnx", "own.onnx")
    return words(bench, PROFILE.replace("--batch 1", "--batch 1000000000"))
