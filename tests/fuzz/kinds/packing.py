"""Zip files: the same at any time, such as lie, and such as are larger than they look."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping

BLOCK = 1 << 20


def archive_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file, the same at any time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, compression)
    return content.getvalue()


def zip_damaged(content: bytes, rng: random.Random) -> bytes:
    """An archive with one or two fields of its headers changed."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2))):
        signature = rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
        found = [at for at in range(len(content) - 4) if content.startswith(signature, at)]
        if found:
            at = rng.choice(found) + rng.randrange(4, {b"PK\x05\x06": 20}.get(signature, 30), 2)
            value = rng.choice((0, 1, 8, 0xFFFF, 0x7FFF, rng.randrange(1 << 16)))
            changed[at : at + 2] = struct.pack("<H", value)
    return bytes(changed)


def zeros_deflated(count: int) -> bytes:
    """A deflated stream of so many MiB of zeros; made without having them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (count - 1) + packer.flush()


def bomb(name: str, start: bytes, mebibytes: int, *, told: int | None = None) -> bytes:
    """An archive whose one member is ``start`` and then so many MiB of zeros.

    Args:
        name: of the member.
        start: its first bytes.
        mebibytes: of zeros behind them.
        told: the size that the archive says that it has; None for the right one.
    """
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = head + zeros_deflated(mebibytes)
    size = min(0xFFFFFFFE, len(start) + mebibytes * BLOCK) if told is None else told
    encoded = name.encode()
    fields = struct.pack("<HHHHIII", 0, 8, 0, 33, 0, len(packed), size)
    local = b"PK\x03\x04\x14\x00" + fields + struct.pack("<HH", len(encoded), 0) + encoded + packed
    central = b"PK\x01\x02\x14\x00\x14\x00" + fields
    central += struct.pack("<HHHHHII", len(encoded), 0, 0, 0, 0, 0, 0) + encoded
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end
