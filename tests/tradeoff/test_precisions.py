"""Which precisions there are on the machine at hand, timed for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.errors import CompressError, DataError, ExportError, InputError, ModelFileError
from compress.spec import Budget, Target
from compress.tradeoff import precisions
from compress.tradeoff.precisions import run_once, try_precisions
from compress.tradeoff.trials import FLOAT, PrecisionTrial

AUTOMATIC = Budget(latency_s=1.0, target=Target(precision="auto"))


def test_what_is_not_run_or_not_faster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "MODEL", "wrn-10-1")
    monkeypatch.setattr(precisions, "MAX_S", 2.0)
    said: list[str] = []
    trials = try_precisions(AUTOMATIC, num_classes=3, input_shape=(1, 8, 8), say=said.append)
    found = {trial.precision: trial for trial in trials}
    assert list(found) == ["fp32", "fp16", "bf16", "int8"]
    assert found["fp32"] is FLOAT
    assert not found["bf16"].runs
    assert "onnxruntime does not run it: " in found["bf16"].why
    for name in ("fp16", "int8"):
        ratio = found[name].ratio
        assert found[name].runs
        assert ratio is not None
        assert found[name].eligible == (ratio.high < 1)
        assert found[name].why.startswith("not shown to be faster") != found[name].eligible
    assert said[0] == "Timing wrn-10-1 in fp32, fp16, bf16, int8."
    assert len(said) == 4
    read = [PrecisionTrial.from_dict(json.loads(json.dumps(each.to_dict()))) for each in trials]
    assert tuple(read) == trials


@pytest.mark.parametrize("error", [ExportError, DataError, ModelFileError])
def test_what_cannot_be_converted_is_left_out_with_its_reason(
    error: type[CompressError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("It cannot be had.")

    monkeypatch.setattr(precisions, "MODEL", "wrn-10-1")
    monkeypatch.setattr(precisions, "reduced_for_timing", refuse)
    trials = try_precisions(AUTOMATIC, num_classes=3, input_shape=(1, 8, 8))
    assert [trial.eligible for trial in trials] == [True, False, False, False]
    for trial in trials[1:]:
        assert trial.why.endswith("It cannot be had")
        # Only of a file that was made can it be said that it does not run.
        assert trial.why.startswith("onnxruntime does not") == (error is ModelFileError)


def test_what_a_runtime_raises_is_that_it_does_not_run_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Broken:
        def load(self, *_: object, **__: object) -> None:
            raise AttributeError("what it says\nin detail")

    monkeypatch.setattr(precisions, "runtime_named", lambda _: Broken())
    monkeypatch.setattr(precisions, "make_input", lambda *_, **__: None)
    with pytest.raises(ModelFileError, match=r"f\.onnx cannot be run: onnxruntime says: what it"):
        run_once(tmp_path / "f.onnx", Target(), batch=1)


def test_a_precision_that_is_named_is_taken() -> None:
    assert try_precisions(AUTOMATIC.in_precision("fp32"), num_classes=3, input_shape=(1, 8, 8)) == (
        FLOAT,
    )
    (trial,) = try_precisions(AUTOMATIC.in_precision("bf16"), num_classes=3, input_shape=(1, 8, 8))
    assert (trial.precision, trial.runs, trial.eligible) == ("bf16", True, True)


@pytest.mark.parametrize("values", [{}, [], {"precision": "int4", "time_by_fp32": None}])
def test_what_is_no_trial_is_refused(values: object) -> None:
    with pytest.raises(InputError):
        PrecisionTrial.from_dict(values)
