"""A whole result.json of a distillation, for tests of what reads it."""

from __future__ import annotations

from typing import Any

SHA256 = "a" * 64
LATENCY = {"median": 1.0, "low": 0.9, "high": 1.1}
NETWORK: dict[str, Any] = {
    "name": "wrn-10-1",
    "params": 77_850,
    "macs": 12_000_000,
    "size_bytes": 320_000,
    "accuracy": {"validation": 0.5, "test": 0.5},
    "latency_ms": LATENCY,
    "file": "student.onnx",
    "sha256": SHA256,
}
FIDELITY = {
    "images": 100,
    "top1_agreement": 0.99,
    "max_abs_diff": 0.5,
    "relative_error": 0.01,
    "task": "classification",
    "score": 0.5,
    "float_score": 0.51,
    "pair": {"n": 100, "lost": 1, "won": 0},
    "method": "run",
}


def precision(outcome: str, fine_tuning: Any = None) -> dict[str, Any]:
    """What is said of a reduced precision."""
    return {
        "accuracy": 0.5,
        "top1_agreement": 0.99,
        "fidelity": FIDELITY,
        "loss": {"outcome": "pass"},
        "outcome": outcome,
        "why": "so it is",
        "fine_tuning": fine_tuning,
    }


def document(
    *,
    standing: str = "better",
    outcome: str | None = None,
    budget: str = "kept",
    reduced: str | None = None,
    size_mb: float | None = None,
    fine_tuning: Any = None,
) -> dict[str, Any]:
    """The values of result.json.

    Args:
        standing: of the student beside chance.
        outcome: of its accuracy drop.
        budget: the outcome of the budget.
        reduced: the outcome of its precision, which is int8; None for fp32.
        size_mb: a limit of the size.
        fine_tuning: what is said of one.
    """
    interval = {"value": 2.0, "low": 1.9, "high": 2.1}
    shipped = "int8" if reduced else "fp32"
    return {
        "schema_version": 1,
        "budget": {
            "latency_ms": None,
            "size_mb": size_mb,
            "speedup": None,
            "batch": 1,
            "percentile": 50.0,
            "headroom": 0.1,
            "measured_ms": interval,
            "outcome": budget,
        },
        "target": {"runtime": "onnxruntime", "device": "cpu", "precision": shipped, "threads": 1},
        "runtime_choice": None,
        "teacher": NETWORK | {"file": "teacher.onnx"},
        "more_teachers": [{"name": "wrn-16-1", "sha256": SHA256, "validation": 0.5}],
        "student": NETWORK
        | {
            "parity": {"images": 9, "top1_agreement": 1.0, "max_abs_diff": 0.0},
            "chance": {"standing": standing, "text": f"{standing} than chance: it is a test."},
            "precision": shipped,
        },
        "accuracy_drop": {
            "value": 0.0123,
            "low": -0.001,
            "high": 0.02,
            "allowed": 0.005 if outcome else None,
            "outcome": outcome,
            "reason": "so it is" if outcome else None,
            "n": 20,
            "lost": 1,
            "won": 0,
            "right": 18,
        },
        "precisions": {"int8": precision(reduced, fine_tuning)} if reduced else {},
        "speedup": interval,
        "load_ms": 1.0,
        "first_ms": 1.0,
        "memory_bytes": 1000,
        "recipe": "kd",
        "recipe_options": {"temperature": 5.0},
        "epochs": 1,
        "seed": 0,
        "data": {
            "name": "a test",
            "sha256": SHA256,
            "n": {"train": 9, "validation": 9, "test": 9},
        },
        "machine": {"cpu": "some"},
        "warnings": ["one"],
    }
