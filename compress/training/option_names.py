"""What the entries of a run's configuration are called on the command line, and in which units."""

from __future__ import annotations

from typing import Any

# An entry of run.json's "config" -> the option that says it. What is not here is told by its own
# name.
OPTIONS = {
    "budget.batch": "--batch",
    "budget.headroom": "--headroom",
    "budget.latency_s": "--budget-ms",
    "budget.percentile": "--percentile",
    "budget.size_bytes": "--budget-mb",
    "budget.speedup": "--speedup",
    "budget.target.precision": "--precision",
    "budget.target.runtime": "--runtime",
    "budget.target.threads": "--threads",
    "data.flip": "--flip",
    "data.name": "--data",
    "data.sha256": "the images of --data",
    "data.train": "the training images (--limit-train, --validation)",
    "data.validation": "--validation",
    "device": "--device",
    "fine_tuning.epochs": "--qat-epochs",
    "fine_tuning.lr": "--qat-lr",
    "init": "--init",
    "max_precision_loss": "--max-precision-loss",
    "more_teachers": "the other files of --teacher",
    "recipe.name": "--recipe",
    "student": "--student",
    "student_init": "--student-init",
    "teacher.arch": "--teacher-arch",
    "teacher.normalization": "--normalize",
    "teacher.sha256": "--teacher",
    "threads": "the threads that torch computes with (OMP_NUM_THREADS)",
    "tradeoff": "--tradeoff",
}
# Groups whose entries are all options.
GROUPS = {"training.": "--", "recipe.": "--set ", "model.": "--arch, its "}
# Entries that are kept in other units than the options have.
SCALES = {
    "budget.headroom": 100,
    "budget.latency_s": 1e3,
    "budget.size_bytes": 1e-6,
    "max_precision_loss": 100,
}
# Of ``TrainingOptions``; no option says them.
WITHOUT_OPTION = ("training.milestones", "training.lr_factor")
HASH_LENGTH = 64


def option_of(entry: str) -> str:
    """'training.batch_size' -> '--batch-size'."""
    for known in (entry, entry.rpartition(".")[0]):
        if known in OPTIONS:
            return OPTIONS[known]
    if entry in WITHOUT_OPTION:
        return entry
    for group, prefix in GROUPS.items():
        if entry.startswith(group):
            name = entry.removeprefix(group)
            return prefix + (name.replace("_", "-") if prefix == "--" else name)
    return entry


def shown(entry: str, value: Any) -> str:
    """A value as the option takes it; a file by the first characters of its hash."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if entry in SCALES and isinstance(value, int | float):
        return f"{SCALES[entry] * value:.6g}"
    if isinstance(value, str) and len(value) == HASH_LENGTH:
        return f"a file of SHA-256 {value[:8]}..."
    return str(value)
