"""compress.models.network: named outputs and taps, for the networks of every family."""

import pytest
import torch

from compress.errors import UnknownName
from compress.models.network import FEATURES, LOGITS
from compress.models.registry import build, spec_of

NAMES = ("wrn-10-1", "resnet-8", "preresnet-11", "inception-x0.1")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_asked_for_by_name(name: str) -> None:
    torch.manual_seed(0)
    network = build(spec_of(name, input_shape=(3, 16, 16))).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert network.taps == ("stage1", "stage2", FEATURES)
        found = network.outputs(images, (LOGITS, *network.taps))
        assert list(found) == [LOGITS, "stage1", "stage2", FEATURES]
        assert torch.equal(found[LOGITS], network(images))
        assert torch.equal(found[FEATURES], network.features(images))
        sides = [found[tap].shape[-1] for tap in network.taps]
        assert sides == [16, 8, 4]
        # The second stage reads what the first one gave.
        second = network.get_submodule("stages.1")(found["stage1"])
        assert torch.equal(second, found["stage2"])
        assert list(network.outputs(images)) == [LOGITS]


def test_what_is_not_wanted_is_not_computed_and_nothing_is_left_behind() -> None:
    network = build(spec_of("wrn-10-1")).eval()
    calls = []
    network.classifier.register_forward_hook(lambda *_: calls.append(1))
    found = network.outputs(torch.zeros(1, 3, 8, 8), {"stage1"})
    assert list(found) == ["stage1"]
    assert not calls
    assert not network.get_submodule("stages.0")._forward_hooks


def test_an_output_that_there_is_not_is_refused_with_those_there_are() -> None:
    network = build(spec_of("wrn-10-1"))
    with pytest.raises(UnknownName, match="stage1"):
        network.outputs(torch.zeros(1, 3, 8, 8), {"stage9"})
