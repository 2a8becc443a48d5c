"""A pickle is known before it is read: what it imports, what it would make, and how large."""

from __future__ import annotations

import io
import pickle
import struct
import time
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch

from compress.models.formats.pickles import TooMuch, survey


def test_what_a_pickle_imports_calls_and_holds() -> None:
    content = {"epoch": 3, "net": OrderedDict(a=(1, 2)), "seen": {1, 2}, "when": b"x"}
    for protocol in range(2, 6):
        found = survey(io.BytesIO(pickle.dumps(content, protocol)))
        assert found.root is not None
        assert [key.value for key, _ in found.root.entries()] == ["epoch", "net", "seen", "when"]
        assert "collections.OrderedDict" in found.imports
        assert "collections.OrderedDict" in [call.value for call in found.calls]
        net = {key.value: value for key, value in found.root.entries()}["net"]
        assert [key.value for key, _ in net.entries()] == ["a"]


def test_a_pickle_that_is_cut_short_gives_what_it_has() -> None:
    whole = pickle.dumps([torch.device("cpu"), OrderedDict()], 2)
    for end in range(len(whole)):
        assert survey(io.BytesIO(whole[:end])).root is None
    found = survey(io.BytesIO(whole[:-1]))
    assert found.imports == ["torch.device", "collections.OrderedDict"]


def nested_tuples(levels: int) -> bytes:
    """((((), ()), ...), ...) as a key: few bytes, and 2^levels values to hash."""
    return b"\x80\x02}" + b")" + b"2\x86" * levels + b"K\x01s."


def one_tuple_often(items: int, times: int) -> bytes:
    """torch.Size of one long tuple, many times."""
    size = b"ctorch\nSize\nq\x00"
    long = b"(" + b"K\x01" * items + b"tq\x01"
    return b"\x80\x02" + size + long + b"]" + b"h\x00h\x01\x85Ra" * times + b"."


def one_text_often(length: int, times: int) -> bytes:
    encode = b"c_codecs\nencode\nq\x00"
    text = b"X" + struct.pack("<I", length) + b"a" * length + b"q\x01"
    return b"\x80\x02" + encode + text + b"]" + b"h\x00h\x01\x85Ra" * times + b"."


def huge_bytearray() -> bytes:
    number = (10**12).to_bytes(6, "little")
    return b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + number + b"\x85R."


@pytest.mark.parametrize(
    "make",
    [
        lambda: nested_tuples(60),
        lambda: b"\x80\x02}" + b")" + b"\x85" * 100 + b"K\x01s.",
        lambda: one_tuple_often(10_000, 10_000),
        lambda: one_text_often(1_000_000, 1_000),
        huge_bytearray,
        lambda: b"\x80\x02" + b"N0" * 600_000 + b"N.",
    ],
)
def test_what_grows_is_refused_in_no_time(make: Callable[[], bytes]) -> None:
    content = make()
    start = time.monotonic()
    with pytest.raises(TooMuch):
        survey(io.BytesIO(content))
    assert time.monotonic() - start < 20
