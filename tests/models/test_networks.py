"""compress.models: the networks, against the papers' tables and by their shapes."""

import pytest
import torch
from torch import nn

from compress.models.registry import build, count_parameters, map_shape, spec_of
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
        network = build(spec_of(name, num_classes=100))
    millions = count_parameters(network) / 1e6
    digits = 1 if name == "wrn-40-10" else 2
    assert round(millions, digits) == TABLE_5[name]


# Table 6 of arXiv 1512.03385: millions of parameters with 10 classes.
@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_parameters_are_those_of_he_et_al(depth: int, millions: float) -> None:
    with torch.device("meta"):
        network = build(spec_of(f"resnet-{depth}"))
    assert round(count_parameters(network) / 1e6, 1 if depth == 110 else 2) == millions


def test_option_b_adds_two_convolutions_with_batch_norm() -> None:
    plain = count_parameters(build(spec_of("resnet-20")))
    with_b = count_parameters(build(spec_of("resnet-20", shortcut="conv")))
    assert with_b - plain == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [
        # Middle width w, i channels in, 4w out; every batch norm has two values a channel.
        # A block that keeps its shape has 4w * w + 9w^2 + w * 4w and 2 * 6w, 17w^2 + 12w:
        #   w = 16: 4,544; w = 32: 17,792; w = 64: 70,400; together 92,736.
        # The first of a stage has 13w^2 + 5iw + 2i + 4w, the shortcut i * 4w in it.
        #   i = 16: 4,704; i = 64: 23,808; i = 128: 94,720; together 123,232.
        # The stem has 432, the last batch norm 512, the classifier 2,570: 3,514.
        (11, 3_514 + 123_232),
        (164, 3_514 + 123_232 + 17 * 92_736),  # 1,703,258
        (1001, 3_514 + 123_232 + 110 * 92_736),  # 10,327,706
    ],
)
def test_parameters_of_a_preactivation_resnet(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build(spec_of(f"preresnet-{depth}"))
    assert count_parameters(network) == parameters
    # arXiv 1605.07146 lists them with 1.7 and 10.2 million, which is so without batch norms.
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    rest = parameters - sum(count_parameters(norm) for norm in norms)
    published = {164: 1.7, 1001: 10.2}
    assert round(rest / 1e6, 1) == published.get(depth, 0.1)


def test_parameters_of_the_small_inception() -> None:
    """Appendix A of arXiv 1611.03530.

    Convolutions: 2,592 of the stem; 96 * (32 + 9 * 32) = 30,720 and 29,696; 57,600; 87,040,
    107,520, 128,000 and 145,920; 124,416; 387,840 and 542,976: 1,644,320. Filters: 96; 64, 80;
    80; 4 modules of 160, 160, 160, 144; 96; 336, 336: 1,712 shifts. Classifier: 3,370.
    """
    network = build(spec_of("inception"))
    assert count_parameters(network) == 1_644_320 + 1_712 + 3_370 == 1_649_402
    assert sum(name.endswith(".weight") for name, _ in network.named_parameters()) == 20
    assert torch.equal(network.state_dict()["bn.weight"], torch.ones(96))


SPECS = [
    spec_of("wrn-10-1"),
    spec_of("wrn-16-1.5", num_classes=7),
    spec_of("wrn-10-0.5", input_shape=(1, 28, 28)),
    spec_of("wrn-10-2", input_shape=(3, 64, 48), shortcut="input"),
    spec_of("wrn-10-1", stride_conv=2, conv_bias=True),
    spec_of("resnet-8"),
    spec_of("resnet-8", shortcut="pad-both", input_shape=(1, 32, 32)),
    spec_of("resnet-20", shortcut="conv", num_classes=100),
    spec_of("resnet-8x2.5", input_shape=(3, 33, 35), stride_conv=2),
    spec_of("preresnet-11"),
    spec_of("preresnet-20x1.5", num_classes=7, input_shape=(1, 9, 8)),
    spec_of("preresnet-11x0.5", input_shape=(3, 33, 35), stride_conv=2, shortcut="input"),
    spec_of("preresnet-11", stem_channels=64, first_shortcut=True, conv_bias=True),
    spec_of("inception"),
    spec_of("inception-x0.3", num_classes=7, input_shape=(1, 9, 8), conv_bias=True),
    spec_of("inception-x0.5", input_shape=(3, 33, 35)),
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
    assert features.shape == (2, network.linear.in_features, height, width)
    assert features.shape[1:] == map_shape(spec)
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
        network = build(spec_of(f"{arch}-{depth}" + ("-2" if arch == "wrn" else "x2")))
        main = [
            module
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
        ]
        assert len(main) == (depth - 2 if arch == "wrn" else depth)


def test_the_depth_of_a_preactivation_resnet_leaves_out_shortcuts() -> None:
    for depth in (11, 29):
        layers = [
            name
            for name, module in build(spec_of(f"preresnet-{depth}")).named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        assert sum("shortcut" not in name for name in layers) == depth
        assert sum("shortcut" in name for name in layers) == 3


def test_a_thousand_layers_run() -> None:
    """No recursion: Python's limit is 1,000 calls."""
    network = build(spec_of("preresnet-1001", input_shape=(3, 8, 8))).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 8, 8)).isfinite().all()


def test_a_bottleneck_strides_where_it_says() -> None:
    for stride_conv, strides in ((1, [2, 1, 1]), (2, [1, 2, 1])):
        block = build(spec_of("preresnet-11", stride_conv=stride_conv)).get_submodule("stages.1.0")
        convs = [block.get_submodule(f"conv{number}") for number in (1, 2, 3)]
        assert [conv.stride[0] for conv in convs if isinstance(conv, nn.Conv2d)] == strides
        assert [c.kernel_size[0] for c in convs if isinstance(c, nn.Conv2d)] == [1, 3, 1]


def test_an_inception_pads_or_not() -> None:
    """32 pixels become 16 and 8 padded, 15 and 7 unpadded; the smallest image leaves one pixel."""
    for shortcut, size, left in (
        ("padded", 32, 8),
        ("unpadded", 32, 7),
        ("padded", 28, 7),
        ("padded", 8, 2),
        ("unpadded", 8, 1),
    ):
        spec = spec_of("inception-x0.25", shortcut=shortcut, input_shape=(3, size, size))
        images = torch.zeros(1, 3, size, size)
        assert build(spec).eval().features(images).shape[2:] == (left, left)


def test_an_inception_concatenates_what_it_says() -> None:
    """The 1x1 convolution before the 3x3 one, the strided one before the pooled map."""
    network = build(spec_of("inception")).eval()
    x = torch.rand(1, 96, 8, 8)
    both = network.get_submodule("stages.0.0")(x)
    assert torch.equal(both[:, :32], network.get_submodule("stages.0.0.point")(x))
    x = torch.rand(1, 80, 8, 8)
    halved = network.get_submodule("stages.1.0")(x)
    assert halved.shape == (1, 160, 4, 4)
    assert torch.equal(halved[:, 80:], nn.functional.max_pool2d(x, 3, 2, 1))


def test_an_inception_trains_shifts_and_no_scales() -> None:
    network = build(spec_of("inception-x0.1"))
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    optimizer.step()
    state = network.state_dict()
    assert torch.equal(state["stages.2.1.point.bn.weight"], torch.ones(18))
    assert not torch.equal(state["stages.2.1.point.bn.bias"], torch.zeros(18))


def test_pad_shortcuts_pad_where_they_say() -> None:
    images = torch.randn(2, 3, 32, 32)
    end = build(spec_of("resnet-8", shortcut="pad")).eval()
    both = build(spec_of("resnet-8", shortcut="pad-both")).eval()
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


@pytest.mark.parametrize("name", ["wrn-10-2", "preresnet-11"])
def test_a_preactivation_shortcut_reads_what_its_name_says(name: str) -> None:
    torch.manual_seed(0)
    activated = build(spec_of(name)).eval()
    raw = build(spec_of(name, shortcut="input")).eval()
    raw.load_state_dict(activated.state_dict())
    # Everywhere negative: what has passed ReLU is zero, the raw input is not.
    x = -torch.ones(1, 16, 8, 8)
    block = activated.get_submodule("stages.0.0")
    assert block(x).abs().max() == 0
    assert raw.get_submodule("stages.0.0")(x).abs().max() > 0


def test_initial_weights_follow_he_et_al() -> None:
    torch.manual_seed(0)
    network = build(spec_of("wrn-10-4"))
    weight = network.state_dict()["stages.2.0.conv2.weight"]
    expected = (2 / (9 * 256)) ** 0.5
    assert float(weight.std()) == pytest.approx(expected, rel=0.02)
    with torch.no_grad():
        logits = network.eval()(torch.randn(8, 3, 32, 32))
    assert logits.abs().max() < 10


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = build(spec_of("wrn-10-1", dropout=0.5))
    images = torch.randn(4, 3, 32, 32)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))
