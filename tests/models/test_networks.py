"""compress.models: WRN and CIFAR ResNet, against the papers' tables and by their shapes."""

import pytest
import torch
from torch import nn

from compress.models.registry import build, count_parameters
from compress.spec import ModelSpec

# Table 5 of arXiv 1709.00513: millions of parameters with 100 classes.
TABLE_5 = {
    "wrn-10-2": 0.32,
    "wrn-10-4": 1.22,
    "wrn-10-6": 2.72,
    "wrn-10-8": 4.81,
    "wrn-10-10": 7.49,
    "wrn-16-4": 2.77,
    "wrn-22-4": 4.32,
    "wrn-28-4": 5.87,
    "wrn-34-4": 7.42,
    "wrn-40-10": 55.9,
}


@pytest.mark.parametrize("name", TABLE_5)
def test_parameters_are_those_of_table_5(name: str) -> None:
    with torch.device("meta"):
        network = build(ModelSpec.parse(name, num_classes=100))
    millions = count_parameters(network) / 1e6
    digits = 1 if name == "wrn-40-10" else 2
    assert round(millions, digits) == TABLE_5[name]


# Table 6 of arXiv 1512.03385: millions of parameters with 10 classes.
@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_parameters_are_those_of_he_et_al(depth: int, millions: float) -> None:
    with torch.device("meta"):
        network = build(ModelSpec("resnet", depth))
    assert round(count_parameters(network) / 1e6, 1 if depth == 110 else 2) == millions


def test_option_b_adds_two_convolutions_with_batch_norm() -> None:
    plain = count_parameters(build(ModelSpec("resnet", 20)))
    with_b = count_parameters(build(ModelSpec("resnet", 20, shortcut="conv")))
    assert with_b - plain == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


SPECS = [
    ModelSpec("wrn", 10),
    ModelSpec("wrn", 16, 1.5, num_classes=7),
    ModelSpec("wrn", 10, 0.5, input_shape=(1, 28, 28)),
    ModelSpec("wrn", 10, 2, input_shape=(3, 64, 48), shortcut="input"),
    ModelSpec("wrn", 10, stride_conv=2, conv_bias=True),
    ModelSpec("resnet", 8),
    ModelSpec("resnet", 8, shortcut="pad-both", input_shape=(1, 32, 32)),
    ModelSpec("resnet", 20, shortcut="conv", num_classes=100),
    ModelSpec("resnet", 8, 2.5, input_shape=(3, 33, 35), stride_conv=2),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.input_shape}")
def test_shapes_and_the_two_halves(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    network = build(spec).eval()
    images = torch.randn(2, *spec.input_shape)
    with torch.no_grad():
        features = network.features(images)
        logits = network(images)
        assert torch.equal(network.classify(features), logits)
    # Each of two strides of 2 halves and rounds up.
    height, width = ((size + 3) // 4 for size in spec.input_shape[1:])
    assert features.shape == (2, spec.stage_channels[-1], height, width)
    assert logits.shape == (2, spec.num_classes)
    assert features.min() >= 0


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.input_shape}")
def test_the_classifier_is_what_features_do_not_use(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    network = build(spec)
    network.features(torch.randn(2, *spec.input_shape)).square().sum().backward()
    unused = {name for name, p in network.named_parameters() if p.grad is None}
    of_classifier = {id(p) for p in network.classifier.parameters()}
    assert unused == {name for name, p in network.named_parameters() if id(p) in of_classifier}
    assert unused


@pytest.mark.parametrize("arch", ["wrn", "resnet"])
def test_the_depth_counts_the_layers_with_weights(arch: str) -> None:
    """Convolutions on the main path and the linear layer are 6n+2.

    A WRN's 6n+4 counts the three 1x1 convolutions of its shortcuts, and not the linear layer.
    """
    for depth in (10, 16) if arch == "wrn" else (8, 20):
        network = build(ModelSpec(arch, depth, 2.0))
        main = [
            module
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
        ]
        assert len(main) == (depth - 2 if arch == "wrn" else depth)


def test_pad_shortcuts_pad_where_they_say() -> None:
    images = torch.randn(2, 3, 32, 32)
    end = build(ModelSpec("resnet", 8, shortcut="pad")).eval()
    both = build(ModelSpec("resnet", 8, shortcut="pad-both")).eval()
    both.load_state_dict(end.state_dict())
    x = torch.rand(1, 16, 4, 4)
    from_end = end.get_submodule("stages.1.0.shortcut")(x)
    from_both = both.get_submodule("stages.1.0.shortcut")(x)
    assert torch.equal(from_end[:, :16], x[:, :, ::2, ::2])
    assert torch.equal(from_both[:, 8:24], x[:, :, ::2, ::2])
    assert from_end[:, 16:].abs().max() == 0
    assert from_both[:, :8].abs().max() == 0
    assert from_both[:, 24:].abs().max() == 0
    assert not torch.equal(end(images), both(images))


def test_a_wrn_shortcut_reads_what_its_name_says() -> None:
    torch.manual_seed(0)
    activated = build(ModelSpec("wrn", 10, 2)).eval()
    raw = build(ModelSpec("wrn", 10, 2, shortcut="input")).eval()
    raw.load_state_dict(activated.state_dict())
    # Everywhere negative: what has passed ReLU is zero, the raw input is not.
    x = -torch.ones(1, 16, 8, 8)
    block = activated.get_submodule("stages.0.0")
    assert block(x).abs().max() == 0
    assert raw.get_submodule("stages.0.0")(x).abs().max() > 0


def test_initial_weights_follow_he_et_al() -> None:
    torch.manual_seed(0)
    network = build(ModelSpec("wrn", 10, 4))
    weight = network.state_dict()["stages.2.0.conv2.weight"]
    expected = (2 / (9 * 256)) ** 0.5
    assert float(weight.std()) == pytest.approx(expected, rel=0.02)
    with torch.no_grad():
        logits = network.eval()(torch.randn(8, 3, 32, 32))
    assert logits.abs().max() < 10


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = build(ModelSpec("wrn", 10, dropout=0.5))
    images = torch.randn(4, 3, 32, 32)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))
