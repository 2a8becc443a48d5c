from __future__ import annotations

import pytest
import torch

from compress.models.registry import build
from compress.training.passes import Average, arithmetic, rounding
from tests.training.toy import SPEC


def test_an_average_against_figures() -> None:
    torch.manual_seed(0)
    network = build(SPEC)
    average = Average(network, decay=0.5)
    start = network.get_parameter("linear.bias").detach().clone()
    # In steps 0 to 8 the decay is (1 + t) / (10 + t), which is 0.5 in step 8.
    expected = start.clone()
    for step in range(11):
        with torch.no_grad():
            network.get_parameter("linear.bias").add_(1)
            network.get_buffer("bn.num_batches_tracked").add_(1)
        average.update(network)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (start + step + 1)
    found = average.network.get_parameter("linear.bias")
    assert torch.allclose(found, expected)
    assert not found.requires_grad
    assert int(average.network.get_buffer("bn.num_batches_tracked")) == 11
    again = Average(build(SPEC), decay=0.5)
    again.load_state_dict(average.state_dict())
    for each in (average, again):
        each.update(network)
    assert torch.equal(again.network.get_parameter("linear.bias"), found)


def test_a_cpu_needs_no_settings() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with arithmetic(torch.device("cpu"), tf32=False, deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() == before
        assert rounding(torch.device("cpu")) == str(torch.get_num_threads())


@pytest.mark.gpu
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_s_settings_hold_for_the_block(deterministic: bool) -> None:
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    with arithmetic(torch.device("cuda"), tf32=True, deterministic=deterministic):
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.benchmark != deterministic
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert rounding(torch.device("cuda")) == f"tf32 {deterministic}"
    assert before == (
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )
