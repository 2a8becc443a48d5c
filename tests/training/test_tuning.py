"""compress.training.tuning: what is decided, from scripted times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from compress.models.registry import build, spec_of
from compress.training import tuning
from compress.training.options import TrainingOptions
from compress.training.tuning import Tuning, takes_bf16, tune

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LONG = 10_000
AUTO = TrainingOptions()
MEASURED = replace(AUTO, memory_format="measured", compile="measured")
# Seconds of a step by layout and by whether it is compiled.
Times = dict[tuple[str, str], float]
SLOW: Times = {
    ("channels_last", "off"): 1.0,
    ("contiguous", "off"): 1.2,
    ("channels_last", "on"): 0.8,
    ("contiguous", "on"): 0.9,
    ("channels_last", "graphs"): 0.85,
}
Script = Callable[[Times], list[tuple[str, str]]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Lets trials take these times, without any GPU; gives the list of those that are made."""

    def install(times: Times) -> list[tuple[str, str]]:
        made: list[tuple[str, str]] = []

        class Scripted:
            def __init__(
                self, *_: Any, memory_format: str, compiled: str = "off", **__: Any
            ) -> None:
                self.kind = (memory_format, compiled)
                made.append(self.kind)

            def step(self) -> float:
                if times[self.kind] < 0:
                    raise RuntimeError("no compiler")
                return times[self.kind]

        monkeypatch.setattr(tuning, "Trial", Scripted)
        monkeypatch.setattr("torch.random.fork_rng", lambda _: nullcontext())
        return made

    return install


def decide(
    options: TrainingOptions, device: torch.device = CPU, steps: int = LONG
) -> tuple[Tuning, str]:
    said: list[str] = []
    network = build(spec_of("wrn-10-0.5", input_shape=(1, 8, 8)))
    found = tune(network, device, options, steps=steps, say=said.append)
    (text,) = said
    return found, text


@pytest.mark.parametrize("options", [AUTO, replace(AUTO, deterministic=True)])
def test_a_cpu_s_steps_are_fixed_whatever_would_be_faster(
    scripted: Script, options: TrainingOptions
) -> None:
    made = scripted({**SLOW, ("contiguous", "off"): 0.01})
    found, said = decide(options)
    assert found == Tuning("channels_last", "off", fused=False, bf16=False)
    assert made == []
    assert said == "Steps: channels_last, not compiled, optimiser not fused."


def test_a_deterministic_gpu_s_steps_are_fixed(scripted: Script) -> None:
    made = scripted({**SLOW, ("contiguous", "off"): 0.01})
    found, said = decide(replace(AUTO, deterministic=True, tf32=False), GPU)
    assert found == Tuning("channels_last", "off", fused=True, bf16=False)
    assert made == []
    assert said == ("Steps: channels_last, not compiled, fused optimiser, no TF32, deterministic.")


def test_a_short_training_on_a_gpu_is_not_measured(scripted: Script) -> None:
    made = scripted(SLOW)
    assert decide(AUTO, GPU, tuning.MEASURED_STEPS - 1)[0].memory_format == "channels_last"
    assert made == []
    assert decide(AUTO, GPU, tuning.COMPILED_STEPS - 1)[0].compile == "off"
    assert made == [("channels_last", "off"), ("contiguous", "off")]


@pytest.mark.parametrize(("options", "device"), [(MEASURED, CPU), (AUTO, GPU)])
@pytest.mark.parametrize(
    ("contiguous_s", "chosen"),
    [(1.2, "channels_last"), (0.95, "channels_last"), (0.8, "contiguous")],
)
def test_the_layout_is_the_faster_one_where_it_is_clearly_so(
    scripted: Script,
    options: TrainingOptions,
    device: torch.device,
    contiguous_s: float,
    chosen: str,
) -> None:
    scripted({**SLOW, ("contiguous", "off"): contiguous_s})
    found, said = decide(options, device)
    assert found.memory_format == chosen
    assert said.startswith(f"Steps: {chosen} (")
    for figure in ("1000.0", f"{1000 * contiguous_s:.1f}"):
        assert figure in said


@pytest.mark.parametrize(("options", "device"), [(MEASURED, CPU), (AUTO, GPU)])
@pytest.mark.parametrize(
    ("compiled_s", "expected", "told"),
    [
        (0.8, "on", "compiled (800.0 ms a step against 1000.0)"),
        (0.95, "off", "not compiled (it would take 950.0 ms a step against 1000.0)"),
        (-1.0, "off", "not compiled (torch.compile failed: RuntimeError)"),
    ],
)
def test_a_student_is_compiled_where_that_pays(
    scripted: Script,
    options: TrainingOptions,
    device: torch.device,
    compiled_s: float,
    expected: str,
    told: str,
) -> None:
    made = scripted({**SLOW, ("channels_last", "on"): compiled_s})
    found, said = decide(options, device)
    assert found.compile == expected
    assert f", {told}, " in said
    assert made[2:] == [("channels_last", "off"), ("channels_last", "on")]


def test_graphs_are_tried_where_measuring_is_asked_for(scripted: Script) -> None:
    scripted({**SLOW, ("channels_last", "graphs"): 0.5})
    found, said = decide(MEASURED, GPU)
    assert found.compile == "graphs"
    assert "compiled with CUDA graphs (500.0 ms a step against 1000.0)" in said


def test_what_an_option_names_is_taken_unmeasured(scripted: Script) -> None:
    made = scripted(SLOW)
    asked = replace(AUTO, memory_format="contiguous", compile="on", fused="on", autocast="bf16")
    for device in (CPU, GPU):
        found, said = decide(asked, device)
        assert found == Tuning("contiguous", "on", fused=True, bf16=True)
        assert said.startswith("Steps: contiguous, compiled, fused optimiser, bfloat16 autocast")
    assert made == []


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_is_taken_by_itself_on_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_it)
    auto = replace(AUTO, autocast="auto")
    assert takes_bf16(auto, GPU) == has_it
    assert not takes_bf16(auto, CPU)
    assert not takes_bf16(replace(AUTO, autocast="off"), GPU)
    assert takes_bf16(replace(AUTO, autocast="bf16"), CPU)


def test_measuring_leaves_the_generator_alone() -> None:
    network = build(spec_of("wrn-10-0.5", input_shape=(1, 8, 8)))
    said: list[str] = []
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    options = replace(AUTO, batch_size=4, memory_format="measured")
    tune(network, CPU, options, steps=LONG, say=said.append)
    assert torch.equal(torch.rand(1), expected)
    assert "ms for a step of 4 images" in said[0]
