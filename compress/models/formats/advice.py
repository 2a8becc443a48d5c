"""The lines that keep the weights of a refused checkpoint alone, for whoever trusts the file."""

from __future__ import annotations

from pathlib import Path

from compress.models.formats.pickles import Outline

_DEEPEST = 4
# A whole module counts as more tensors than any mapping beside it.
_MODULE = 1_000_000
_TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter")


def conversion_advice(
    path: Path, found: Outline | None, *, bare: bool = False, script: bool = False
) -> str:
    """Sentences and lines of Python that write the weights of a file as safetensors beside it.

    Args:
        path: of the refused file; the lines are for its folder.
        found: what its pickle would make, as far as that is known.
        bare: whether it is a pickle that torch did not write.
        script: whether it is a TorchScript archive.
    """
    name, new = path.name, f"{path.stem}.safetensors"
    if script:
        read = f"c = torch.jit.load({name!r}, map_location='cpu').state_dict()"
        imports = "import torch"
    elif bare:
        read = f"c = pickle.load(open({name!r}, 'rb'))"
        imports = "import pickle, torch"
    else:
        read = f"c = torch.load({name!r}, map_location='cpu', weights_only=False)"
        imports = "import torch"
    lines = [f"{imports}; from safetensors.torch import save_file", read]
    where = None if found is None or script else _weights_in(found)
    if where:
        lines.append(f"c = c{where}")
    elif where is None and not script:
        # Whatever is inside of one another, one level at a time; the mapping of most tensors.
        lines += [
            "inside = lambda c: c.state_dict() if hasattr(c, 'state_dict') else c",
            "values = lambda c: c.values() if isinstance(c, dict) else "
            "c if isinstance(c, (list, tuple)) else ()",
            "level, seen = [inside(c)], []",
            "while level and len(seen) < 1000: "
            "seen += level; level = [inside(v) for c in level for v in values(c)]",
            "c = max((c for c in seen if isinstance(c, dict)), "
            "key=lambda c: sum(map(torch.is_tensor, c.values())))",
        ]
    lines.append(
        "save_file({str(k): v.detach().clone().contiguous() "
        f"for k, v in c.items() if torch.is_tensor(v)}}, {new!r})"
    )
    whole = ""
    if where and "state_dict()" in where:
        whole = " Python must be able to import its classes."
    return (
        f"If you trust the file, save only its weights with these lines of Python.{whole} Then "
        "give the new file:\n" + "\n".join(f"    {line}" for line in lines)
    )


def _weights_in(root: Outline) -> str | None:
    """Where the weights are in what a pickle gives, as the end of an expression, or None.

    "" where it is the mapping itself, "['net']" under a key, ".state_dict()" in a whole module.
    """
    level = [("", root)]
    best, most = None, 0
    for _ in range(_DEEPEST):
        for where, value in level:
            count = _tensors_of(value)
            if count > most:
                best, most = _way(where, value), count
        level = [
            (f"{where}[{key.value!r}]", inside)
            for where, value in level
            if value.kind == "dict"
            for key, inside in value.entries()
            if isinstance(key.value, str | int) and "optim" not in str(key.value)
        ][:1000]
    return best


def _way(where: str, value: Outline) -> str:
    return where if value.kind == "dict" else f"{where}.state_dict()"


def _tensors_of(value: Outline) -> int:
    """How many tensors a mapping has, or a whole module; 0 of anything else."""
    if value.kind == "dict":
        return sum(_is_tensor(inside) for _, inside in value.entries())
    if value.kind == "call" and value.state is not None and value.state.kind == "dict":
        keys = [key.value for key, _ in value.state.entries()]
        return _MODULE if "_parameters" in keys and "_modules" in keys else 0
    return 0


def _is_tensor(value: Outline) -> bool:
    return value.kind == "call" and str(value.value).startswith(_TENSOR)
