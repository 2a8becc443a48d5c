"""What kind of file something is, from its first bytes."""

from __future__ import annotations

import os
from pathlib import Path

from compress.errors import CheckpointError, InputError
from compress.files import is_lfs_pointer, lfs_advice, regular_file

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that every torch file before the zip format starts with."""

ZIP_MAGIC = b"PK\x03\x04"
# Nearly twenty times a WRN-40-10, so there is room for averages and an optimizer's state.
LARGEST_FILE_BYTES = 4 << 30
# 50,000 tensors need a fifth of it.
LARGEST_SAFETENSORS_HEADER_BYTES = 25_000_000


def head_of(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        CheckpointError: it is no regular file, cannot be read, or is empty.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint file in it.")
    try:
        with regular_file(path).open("rb") as file:
            head = file.read(4096)
            size = file.seek(0, os.SEEK_END)
    except InputError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    if size > LARGEST_FILE_BYTES:
        raise CheckpointError(
            f"{path} has {size:,} bytes; {LARGEST_FILE_BYTES:,} is the most that is read. Save "
            "only the network's state_dict."
        )
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes). Copy or download it again.")
    return head


def is_safetensors(head: bytes) -> bool:
    """Whether a file starts with the length of a JSON header and that header."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and length <= LARGEST_SAFETENSORS_HEADER_BYTES


def is_pickle(head: bytes) -> bool:
    """Whether a file starts as a pickle of protocol 2 or later does."""
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def foreign(path: Path, head: bytes) -> CheckpointError:
    """The error for a file that is no checkpoint, saying what it is."""
    text = head.lstrip().lower()
    wanted = "A checkpoint is a .pt, .pth, .th or .safetensors file."
    if is_lfs_pointer(head):
        return CheckpointError(lfs_advice(str(path)))
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return CheckpointError(
            f"{path} is a web page, not a checkpoint: the download gave an error or a login page. "
            "Download it again."
        )
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"\x12" in head[:4]):
        return CheckpointError(
            f"{path} is an ONNX file; its weights cannot be trained or recognised. Give the "
            f"checkpoint that it was exported from. {wanted}"
        )
    for magic, kind in (
        (b"\x89HDF", "an HDF5 (Keras) file"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"BZh", "a bzip2 archive"),
        (b"\xfd7zXZ", "an xz archive"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GGUF", "a GGUF file"),
    ):
        if head.startswith(magic):
            return CheckpointError(f"{path} is {kind}, not a checkpoint. {wanted}")
    if head[257:262] == b"ustar":
        return CheckpointError(f"{path} is a tar archive; unpack it and name the file in it.")
    if path.suffix.lower() == ".safetensors":
        return CheckpointError(
            f"{path} is not a safetensors file: its header is damaged. Copy or download it again."
        )
    try:
        shown = head[:40].decode("utf-8").strip().splitlines()
        if "\0" not in head[:40].decode("utf-8"):
            return CheckpointError(
                f"{path} is a text file that starts with '{shown[0] if shown else ''}', not a "
                f"checkpoint. {wanted}"
            )
    except UnicodeDecodeError:
        pass
    return CheckpointError(f"{path} is of an unknown kind. {wanted}")
