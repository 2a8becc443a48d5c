"""Reading other people's weights safely, and reading and writing our own.

Nothing in a file is ever executed: pickles go through torch's restricted unpickler, which knows
tensors and plain containers, and whatever else a file wants is listed and refused.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress.errors import CheckpointError, UnsafeFile, UsageError
from compress.files import atomic_path
from compress.models.recognition.hypothesis import Hypothesis, check_state
from compress.models.recognition.recognise import recognise
from compress.models.recognition.statement import Statement
from compress.models.registry import Network
from compress.spec import ModelSpec, Normalization

METADATA_KEY = "compress"
"""The entry of our safetensors files that describes the network, as JSON."""

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that every torch file before the zip format starts with."""

LARGEST_PICKLE_BYTES = 64 << 20
# What the zipfile module raises over damaged archives.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
LARGEST_SAFETENSORS_HEADER_BYTES = 100_000_000
LARGEST_DEPTH_OF_NESTING = 8

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        tensors: name -> weights of one network, in the file's order.
        metadata: plain values found beside the weights.
        ordered: whether the order of ``tensors`` is that of registration.
        spec: the network, in our own files only; None where it has to be recognised.
        normalization: where the file says it.
        classes: names of the classes, where the file says them.
        notes: what was done on the way, in sentences.
        group: the key or prefix that ``tensors`` have in the file.
        others: further networks in the file, by their key or prefix.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = True
    spec: ModelSpec | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    group: str = ""
    others: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def hypotheses(
        self, *, arch: str | ModelSpec | None = None, image_size: tuple[int, int] = (32, 32)
    ) -> list[Hypothesis]:
        """The networks that the weights may be, the most likely first; one for our own files.

        Args:
            arch: what the user says it is (see ``Statement``); of several networks in a file,
                the first that agrees is taken.
            image_size: height and width of the images; our own files say theirs.

        Raises:
            CheckpointError: of no known family, or not the network that ``arch`` says.
            UsageError: ``arch`` states no network.
        """
        if self.spec is not None:
            if arch is not None and not Statement.of(arch).admits(self.spec):
                raise Statement.of(arch).disagreement(f"{self.path} is", [self.spec])
            return [Hypothesis(self.spec, self.tensors)]
        networks = {self.group: self.tensors, **(self.others if arch is not None else {})}
        refused: CheckpointError | None = None
        for name, tensors in networks.items():
            try:
                found = recognise(tensors, ordered=self.ordered, arch=arch, image_size=image_size)
            except CheckpointError as error:
                refused = refused or error
                continue
            if tensors is not self.tensors:
                _check_values(self.path, tensors)
            note = self._left_out(name)
            return [replace(each, notes=(*note, *each.notes)) for each in found]
        raise refused or CheckpointError(f"{self.path} holds no network.")

    def _left_out(self, taken: str) -> tuple[str, ...]:
        """Says which of several networks was taken."""
        if not self.others:
            return ()
        names = [name for name in (self.group, *self.others) if name != taken]
        listed = ", ".join(f"'{name}'" for name in names)
        return (
            f"The file holds {len(names) + 1} networks; '{taken}' was taken, {listed} left out.",
        )


def read_tensors(path: Path) -> Checkpoint:
    """Reads a .pt, .pth, .th or .safetensors file; what it is shows in its bytes, not its name.

    Raises:
        CheckpointError: not a checkpoint, damaged, or without usable weights.
        UnsafeFile: it would have to execute something to be read; lists what.
    """
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return _from_torch(path)
    if head.startswith(LEGACY_MAGIC):
        return _from_torch(path)
    if _is_safetensors(head):
        return _from_safetensors(path)
    raise _foreign(path, head)


def save_checkpoint(
    path: Path,
    network: Network,
    *,
    normalization: Normalization | None,
    classes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network as safetensors with its description, whole or not at all.

    Args:
        path: where to.
        network: its weights are stored as float32 under its own names.
        normalization: what its images went through.
        classes: one name a class, or none.
        extra: more plain values to keep; ``read_tensors`` gives them back as metadata.

    Raises:
        UsageError: the classes are not as many as the network has, or a value is not plain.
    """
    described = {
        "spec": network.spec.to_dict(),
        "normalization": normalization.to_dict() if normalization else None,
        "classes": list(classes),
    }
    if classes and len(classes) != network.spec.num_classes:
        raise UsageError(
            f"{network.spec.name} has {network.spec.num_classes} classes; "
            f"{len(classes)} names were given."
        )
    clash = sorted(set(described) & set(extra or {}))
    if clash:
        raise UsageError(f"'{clash[0]}' of a checkpoint cannot be set as an extra value.")
    try:
        text = json.dumps(described | dict(extra or {}), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A checkpoint keeps plain values only: {error}.") from error
    weights = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        # One entry alone: safetensors writes several in a random order, and the same weights are
        # to give the same bytes.
        save_file(weights, temporary, metadata={METADATA_KEY: text})


# ---------------------------------------------------------------------------------------------
# What kind of file it is


def _head(path: Path) -> bytes:
    """The first bytes of a file."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint file in it.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes). Copy or download it again.")
    return head


def _is_safetensors(head: bytes) -> bool:
    """Whether a file starts with the length of a JSON header and that header."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and length <= LARGEST_SAFETENSORS_HEADER_BYTES


def _check_zip(path: Path) -> None:
    """Raises where a zip archive is not torch's, is damaged, or holds code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ZIP_ERRORS as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: the end of its zip archive is missing ({error}). "
            "Copy or download it again."
        ) from error
    inside = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise UnsafeFile(
            f"{path} is a TorchScript archive: it holds a program beside its weights. Where you "
            "trust it, keep the weights alone:\n"
            "    import torch; from safetensors.torch import save_file\n"
            f"    save_file(torch.jit.load('{path.name}', map_location='cpu').state_dict(), "
            f"'{path.stem}.safetensors')"
        )
    if "data.pkl" not in inside:
        seen = ", ".join(sorted(names)[:3]) or "nothing"
        raise CheckpointError(f"{path} is a zip archive, but not torch's; it holds {seen}.")


def _foreign(path: Path, head: bytes) -> CheckpointError:
    """The error for a file that is no checkpoint, saying what it is."""
    text = head.lstrip().lower()
    wanted = "A checkpoint is a .pt, .pth, .th or .safetensors file."
    if text.startswith(b"version https://git-lfs"):
        return CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself. Run 'git lfs pull' and try again."
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return CheckpointError(
            f"{path} is a web page, not a checkpoint: the download gave an error or a login page. "
            "Download it again."
        )
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _refuse(path, _globals_of_pickles(path))
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
    return CheckpointError(f"{path} is of no kind that is known here. {wanted}")


# ---------------------------------------------------------------------------------------------
# torch files


class _Skipped:
    """Stands for a NumPy scalar (an accuracy, say): takes what it is given and does nothing."""

    def __init__(self, *values: object) -> None:
        del values

    def __setstate__(self, state: object) -> None:
        del state


# The names under which pickles ask for NumPy scalars. Each is answered with ``_Skipped``, so
# NumPy is not called.
_HARMLESS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


def _from_torch(path: Path) -> Checkpoint:
    """Reads a torch file of either format."""
    with path.open("rb") as file:
        data = io.BytesIO(file.read())
    try:
        with warnings.catch_warnings():
            # About the format's age; the file is the user's, not ours to change.
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([(_Skipped, name) for name in _HARMLESS]):
                loaded = torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise errors of a dozen kinds
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
        unsafe = _globals_of_torch(path)
        if unsafe:
            raise _refuse(path, unsafe) from None
        if "Unsupported operand" in str(error):
            raise UnsafeFile(
                f"{path} was pickled in a way that only the unrestricted reader knows "
                f"({reason}). {_how_to_convert(path)}"
            ) from None
        raise CheckpointError(
            f"{path} is damaged or cut short: torch says '{type(error).__name__}: {reason}'. "
            "Copy or download it again."
        ) from error
    return _choose(path, loaded)


def _globals_of_torch(path: Path) -> list[str]:
    """What a torch file would import beyond tensors and plain containers."""
    if not zipfile.is_zipfile(path):
        return _globals_of_pickles(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return _not_plain(_globals_in(io.BytesIO(archive.read(entry))))
    except (*ZIP_ERRORS, StopIteration):
        return []


def _globals_of_pickles(path: Path) -> list[str]:
    """What the pickles at the start of a file would import beyond plain containers."""
    found: list[str] = []
    with path.open("rb") as file:
        start = io.BytesIO(file.read(LARGEST_PICKLE_BYTES))
    # A legacy torch file: magic number, protocol version, system, object, storage keys.
    for _ in range(5):
        found += _globals_in(start)
    return _not_plain(found)


def _globals_in(file: BinaryIO) -> list[str]:
    """Names that one pickle imports, without unpickling it. A damaged one gives what it has."""
    with warnings.catch_warnings():
        # About escapes in what are no texts at all, in a damaged file.
        warnings.simplefilter("ignore")
        return _listed_globals(file)


def _listed_globals(file: BinaryIO) -> list[str]:
    found = []
    strings: list[str] = []
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                found.append(str(argument).replace(" ", "."))
            elif name == "STACK_GLOBAL":
                found.append(".".join(strings[-2:]))
            elif isinstance(argument, str) and "PUT" not in name and "GET" not in name:
                strings.append(argument)
            elif name == "MEMOIZE" and strings:
                memo[len(memo)] = strings[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET") and argument in memo:
                strings.append(memo[argument])
    except (ValueError, EOFError, IndexError, OverflowError, MemoryError):
        return found
    return found


_PLAIN = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.Size|torch\.nn\.parameter\.Parameter|torch\.(float|double|half|bfloat16|u?int)\d*"
    r"|torch\.(device|dtype|Tensor)|_codecs\.encode|(__builtin__|builtins)\.(set|bytearray|complex)"
)


def _not_plain(names: Sequence[str]) -> list[str]:
    return sorted({n for n in names if not _PLAIN.fullmatch(n) and n not in _HARMLESS})


def _refuse(path: Path, names: Sequence[str]) -> UnsafeFile:
    """The error for a file that would execute something."""
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    what = f"to be read it would import and call {listed}" if names else "it is a bare pickle"
    return UnsafeFile(
        f"{path} holds more than tensors and plain containers: {what}. Nothing was executed. "
        f"{_how_to_convert(path)}"
    )


def _how_to_convert(path: Path) -> str:
    return (
        "Where you trust it, keep the weights alone with these lines, and give the new file "
        "('state_dict' is the key of the weights, if they have one):\n"
        f"    import torch; c = torch.load('{path.name}', map_location='cpu', weights_only=False)\n"
        "    w = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c)\n"
        "    import safetensors.torch; safetensors.torch.save_file("
        "{k: v.contiguous() for k, v in w.items()}, "
        f"'{path.stem}.safetensors')"
    )


# ---------------------------------------------------------------------------------------------
# Which of the mappings in a file is the network


def _choose(path: Path, loaded: object) -> Checkpoint:
    """The weights inside of what torch read: bare, or nested under any key."""
    if isinstance(loaded, Tensor):
        raise CheckpointError(f"{path} holds one tensor and no names; save a state_dict.")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not weights by name; save a state_dict."
        )
    flat = dict(_flatten(loaded))
    tensors = {keys: value for keys, value in flat.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(f"'{key}'" for key in list(loaded)[:5]) or "nothing"
        raise CheckpointError(f"{path} holds no tensors; it has {keys}.")
    metadata = _plain_values(loaded)
    groups, notes = _choose_group(tensors, ordered=True)
    group, chosen = next(iter(groups.items()))
    _check_values(path, chosen)
    return Checkpoint(
        path,
        chosen,
        metadata,
        ordered=True,
        normalization=_stated_normalization(metadata),
        classes=_stated_classes(metadata),
        notes=tuple(notes),
        group=group,
        others={name: value for name, value in groups.items() if name != group},
    )


def _flatten(values: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[Keys, object]]:
    """Every leaf of nested mappings, by its keys."""
    for key, value in values.items():
        if isinstance(value, Mapping) and depth < LARGEST_DEPTH_OF_NESTING:
            for keys, leaf in _flatten(value, depth + 1):
                yield (str(key), *keys), leaf
        else:
            yield (str(key),), value


def _choose_group(
    tensors: Mapping[Keys, Tensor], *, ordered: bool
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The groups of tensors under one prefix that are known networks, the preferred one first.

    Nested keys and dotted names are one tree. From its root downwards, the first level at which
    something is recognised decides; an optimizer's state is not, a whole network is. Where
    nothing is recognised, the group that looks most like a network is given back, so that its
    own error is the one that is told.
    """
    split = {tuple(".".join(keys).split(".")): value for keys, value in tensors.items()}
    level: list[Keys] = [()]
    groups: dict[Keys, dict[str, Tensor]] = {}
    while level:
        found = []
        for prefix in level:
            groups[prefix] = _under(split, prefix)
            if _is_network(groups[prefix], ordered):
                found.append(prefix)
        if found:
            # An average of weights comes after the plain network.
            found.sort(key=lambda prefix: bool(_AVERAGED.search(".".join(prefix))))
            return {".".join(prefix): _strip(groups[prefix]) for prefix in found}, []
        level = list(
            dict.fromkeys(
                keys[: len(prefix) + 1]
                for prefix in level
                for keys in split
                if keys[: len(prefix)] == prefix
                and len(keys) > len(prefix) + 1
                and _count_convs(split, keys[: len(prefix) + 1]) >= 7
            )
        )
    merged = _merge(tensors)
    if merged is not None and _is_network(merged, ordered):
        note = "Parameters and running statistics were put together from two mappings."
        return {"": merged}, [note]
    # Of nested prefixes with the same tensors the innermost is the plainest name.
    best = max(groups, key=lambda prefix: (_likeness(groups[prefix]), len(prefix)))
    return {".".join(best): groups[best]}, []


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the leading parts that all names share ('module.', 'net.module.')."""
    while len({name.split(".", 1)[0] for name in tensors}) == 1 and all("." in n for n in tensors):
        tensors = {name.split(".", 1)[1]: value for name, value in tensors.items()}
    return tensors


def _under(split: Mapping[Keys, Tensor], prefix: Keys) -> dict[str, Tensor]:
    size = len(prefix)
    return {".".join(keys[size:]): v for keys, v in split.items() if keys[:size] == prefix}


def _count_convs(split: Mapping[Keys, Tensor], prefix: Keys) -> int:
    return sum(v.dim() == 4 for keys, v in split.items() if keys[: len(prefix)] == prefix)


def _is_network(tensors: Mapping[str, Tensor], ordered: bool) -> bool:
    try:
        recognise(tensors, ordered=ordered)
    except CheckpointError:
        return False
    return True


def _likeness(tensors: Mapping[str, Tensor]) -> tuple[bool, bool, int]:
    """How much a group looks like one network: one classifier, one stem, many tensors."""
    stems = sum(value.dim() == 4 and value.shape[1] in (1, 3) for value in tensors.values())
    linears = sum(value.dim() == 2 for value in tensors.values())
    return stems == 1, linears == 1, len(tensors)


_AVERAGED = re.compile(r"ema|avg|average|swa|shadow|momentum|target|teacher|best", re.IGNORECASE)


def _merge(tensors: Mapping[Keys, Tensor]) -> dict[str, Tensor] | None:
    """Mappings side by side put together, where no name is in two (parameters and statistics)."""
    merged: dict[str, Tensor] = {}
    for keys, value in tensors.items():
        name = ".".join(keys[1:])
        if not name:
            continue
        if name in merged:
            return None
        merged[name] = value
    return merged or None


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises where a weight is infinite or not a number."""
    for name, value in tensors.items():
        if value.is_floating_point():
            bad = int((~torch.isfinite(value.float())).sum())
            if bad:
                raise CheckpointError(
                    f"'{name}' in {path} has {bad} value(s) of {value.numel()} that are infinite "
                    "or not a number: the training diverged or the file is damaged."
                )


def _plain_values(values: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """What is beside the weights: numbers, texts and lists of them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            inside = _plain_values(value, depth + 1) if depth < LARGEST_DEPTH_OF_NESTING else {}
            if inside:
                found[str(key)] = inside
        elif _is_plain(value):
            found[str(key)] = value
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def _stated_normalization(metadata: Mapping[str, Any]) -> Normalization | None:
    """A mean and a std beside the weights, or under one key there."""
    for place in (metadata, *(v for v in metadata.values() if isinstance(v, Mapping))):
        mean, std = place.get("mean"), place.get("std")
        if isinstance(mean, list | tuple) and isinstance(std, list | tuple):
            try:
                return Normalization(tuple(map(float, mean)), tuple(map(float, std)))
            except (UsageError, TypeError, ValueError):
                continue
    return None


def _stated_classes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    classes = metadata.get("classes", metadata.get("class_names"))
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        return tuple(classes)
    return ()


# ---------------------------------------------------------------------------------------------
# safetensors files


def _from_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            stated = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: '{error}'. Copy or download it again."
        ) from error
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors.")
    text = stated.pop(METADATA_KEY, None)
    if text is not None:
        return _own(path, tensors, text)
    keyed = {tuple(name.split(".")): value for name, value in tensors.items()}
    groups, notes = _choose_group(keyed, ordered=False)
    group, chosen = next(iter(groups.items()))
    _check_values(path, chosen)
    others = {name: value for name, value in groups.items() if name != group}
    return Checkpoint(
        path, chosen, stated, ordered=False, notes=tuple(notes), group=group, others=others
    )


def _own(path: Path, tensors: dict[str, Tensor], text: str) -> Checkpoint:
    """A file that ``save_checkpoint`` wrote; everything in it is checked."""
    try:
        described = json.loads(text)
        spec = ModelSpec.from_dict(described["spec"])
        stated = described["normalization"]
        normalization = None
        if stated is not None:
            normalization = Normalization(
                tuple(float(v) for v in stated["mean"]), tuple(float(v) for v in stated["std"])
            )
        classes = tuple(described["classes"])
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(
            f"The description in {path} is damaged ({type(error).__name__}: {error}). "
            "Write the checkpoint again."
        ) from error
    faults = []
    if not all(isinstance(value, int) for value in (spec.depth, spec.num_classes)):
        faults.append("depth and classes are not whole numbers")
    # Checked before the network is built: a wrong depth could ask for one of any size.
    elif spec.depth > len(tensors):
        faults.append(f"{spec.name} has more layers than the file")
    if normalization and len(normalization.mean) != spec.input_shape[0]:
        faults.append(f"the normalisation is not of {spec.input_shape[0]} channel(s)")
    if not all(isinstance(name, str) for name in classes):
        faults.append("a class name is no text")
    if classes and len(classes) != spec.num_classes:
        faults.append(f"{len(classes)} class names for {spec.num_classes} classes")
    if faults:
        raise CheckpointError(f"The description in {path} is damaged: {'; '.join(faults)}.")
    try:
        check_state(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    _check_values(path, tensors)
    extra = {k: v for k, v in described.items() if k not in ("spec", "normalization", "classes")}
    return Checkpoint(path, tensors, extra, False, spec, normalization, classes)


def weights_of(path: Path, spec: ModelSpec) -> Mapping[str, Tensor]:
    """A checkpoint's weights under the names of ``build(spec)``.

    Raises:
        CheckpointError: it cannot be read, or is another network.
    """
    found = read_tensors(path).hypotheses(image_size=spec.input_shape[1:])[0]
    if replace(found.spec, dropout=0.0) != replace(spec, dropout=0.0):
        raise CheckpointError(
            f"{path} is a {found.spec.name} with {found.spec.num_classes} classes for images of "
            f"{found.spec.input_shape}; a {spec.name} with {spec.num_classes} for "
            f"{spec.input_shape} is to be trained."
        )
    return found.state_dict
