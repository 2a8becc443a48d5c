"""Other people's networks, under other people's names, give the same outputs after import."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

import pytest
import torch
import torchvision
from torch import Tensor, nn

from compress.errors import CheckpointError, UnknownName, UsageError
from compress.models.families import inception
from compress.models.families.wrn import Wrn
from compress.models.hypothesis import Hypothesis, instantiate
from compress.models.recognise import recognise
from compress.models.registry import architecture, build, count_parameters, spec_of
from compress.models.statement import Statement, statement_of
from compress.spec import Normalization
from compress.tradeoff.costs import costs_of
from tests.models.layouts import (
    CifarPreResNet,
    CifarResNet,
    MeliketoyWRN,
    NestedResNet,
    SmallInception,
    WindowedResNet,
    XternalzWRN,
    conv3,
    randomise,
    run_szagoruyko,
    szagoruyko,
)

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(9))
Weights = Mapping[str, Tensor]


def matching(weights: Weights, expected: Tensor, *, ordered: bool = True) -> list[int]:
    """Which hypotheses give these logits."""
    found = recognise(weights, ordered=ordered, image_size=(16, 16))
    return [i for i, h in enumerate(found) if torch.allclose(run(h), expected, atol=1e-3)]


def run(hypothesis: Hypothesis) -> Tensor:
    with torch.inference_mode():
        out: Tensor = instantiate(hypothesis)(IMAGES)
        return out


def logits(network: nn.Module) -> Tensor:
    with torch.inference_mode():
        out: Tensor = network(IMAGES)
        return out


def sorted_names(weights: Weights) -> dict[str, Tensor]:
    """As a safetensors file gives them back."""
    return dict(sorted(weights.items()))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    # name -> builder, recognised as, position of the right hypothesis
    "akamaster": (lambda: CifarResNet(), "resnet-14x0.25", 0),
    "akamaster, n=1": (lambda: CifarResNet(1), "resnet-8x0.25", 0),
    "akamaster, 12 blocks": (lambda: CifarResNet(12), "resnet-74x0.25", 0),
    "padded at the end": (lambda: CifarResNet(shortcut="end"), "resnet-14x0.25", 1),
    "chenyaofo": (
        lambda: CifarResNet(3, shortcut="conv", name="downsample", head="fc"),
        "resnet-20x0.25-b",
        0,
    ),
    "RepDistiller resnet8x4": (
        lambda: CifarResNet(1, (64, 128, 256), 32, "conv", "downsample", "fc", 100),
        "resnet-8x4-b",
        0,
    ),
    "weiaicunzai": (lambda: NestedResNet(), "resnet-14x0.25-b", 0),
    "xternalz, m=1": (lambda: XternalzWRN(), "wrn-16-1", 0),
    "xternalz, m=2, n=1": (lambda: XternalzWRN(1, 2), "wrn-10-2", 0),
    "meliketoy": (lambda: MeliketoyWRN(2), "wrn-16-2", 0),
    "robust, with a copy of block1": (lambda: XternalzWRN(2, 2, copy=True), "wrn-16-2", 0),
    "bearpaw": (lambda: CifarPreResNet(), "preresnet-20x0.25", 0),
    "bearpaw, n=1": (lambda: CifarPreResNet(1), "preresnet-11x0.25", 0),
    "bearpaw, 12 blocks": (lambda: CifarPreResNet(12), "preresnet-110x0.25", 0),
    "bearpaw, another stem": (lambda: CifarPreResNet(stem=6), "preresnet-20x0.25", 0),
    "bearpaw, a stem as wide as the first stage": (
        lambda: CifarPreResNet(stem=16),
        "preresnet-20x0.25",
        0,
    ),
    "kuangliu": (lambda: CifarPreResNet(2, "kuangliu"), "preresnet-20x0.25", 2),
    "He et al.": (lambda: CifarPreResNet(2, "he"), "preresnet-20x0.25", 1),
    "He et al., nested": (lambda: CifarPreResNet(3, "nested"), "preresnet-29x0.25", 1),
    "inception": (lambda: SmallInception(), "inception-x0.125", 0),
    "inception, unpadded": (lambda: SmallInception(padding=0), "inception-x0.125", 1),
    "inception, flat": (lambda: SmallInception(flat=True), "inception-x0.125", 0),
}


@pytest.mark.parametrize("layout", NETWORKS)
@pytest.mark.parametrize("ordered", [True, False])
def test_published_layouts_give_equal_outputs(layout: str, ordered: bool) -> None:
    builder, name, position = NETWORKS[layout]
    network = randomise(builder())
    weights = network.state_dict()
    if not ordered:
        weights = sorted_names(weights)
    found = recognise(weights, ordered=ordered, image_size=(16, 16))
    assert found[0].spec.name == name
    assert matching(weights, logits(network), ordered=ordered)[:1] == [position]


def test_functional_wrn() -> None:
    weights = szagoruyko()
    expected = run_szagoruyko(weights, IMAGES)
    assert matching(weights, expected) == [0]
    assert recognise(weights, ordered=True)[0].spec.name == "wrn-16-2"
    flat = {name.replace(".", "_"): value for name, value in weights.items()}
    assert matching(flat, expected) == [0]
    assert matching(sorted_names(flat), expected, ordered=False) == [0]
    leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    leaves["running_var"] = "moving_variance"
    tensorflow = {
        name if name.startswith("fc") else ".".join([*p[:-1], leaves.get(p[-1], p[-1])]): value
        for name, value in weights.items()
        for p in [name.split(".")]
    }
    assert matching(sorted_names(tensorflow), expected, ordered=False) == [0]


def renamed(weights: Weights, seed: int) -> dict[str, Tensor]:
    """Every word of every name replaced by a random one, alike everywhere; numbers stay."""
    rng = random.Random(seed)
    words: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        if word in ("weight", "bias", "running", "mean", "var", "num", "batches", "tracked"):
            return word
        if word not in words:
            words[word] = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=5))
        return words[word]

    return {re.sub(r"[A-Za-z]+", replace, name): value for name, value in weights.items()}


@pytest.mark.parametrize("layout", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_random_words_do_not_matter(layout: str, seed: int) -> None:
    builder, _, position = NETWORKS[layout]
    network = randomise(builder())
    weights = renamed(network.state_dict(), seed)
    expected = logits(network)
    assert matching(weights, expected)[:1] == [position]
    assert matching(sorted_names(weights), expected, ordered=False)


@pytest.mark.parametrize("layout", NETWORKS)
def test_every_part_renamed_against_the_alphabet(layout: str) -> None:
    """No number is left, and names sort in the opposite of the forward order."""
    builder, _, position = NETWORKS[layout]
    if "copy" in layout:
        pytest.skip("without numbers nothing tells which copy is in use; both are offered")
    network = randomise(builder())
    parts: dict[str, str] = {}
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def word(part: str) -> str:
        if part not in leaves and part not in parts:
            count = 26 * 26 - 1 - len(parts)
            parts[part] = "q" + chr(97 + count // 26) + chr(97 + count % 26)
        return parts.get(part, part)

    weights = {
        ".".join(word(part) for part in name.split(".")): value
        for name, value in network.state_dict().items()
    }
    assert matching(weights, logits(network))[:1] == [position]


def test_an_unused_copy_is_offered_second_and_told() -> None:
    network = randomise(XternalzWRN(2, 2, copy=True))
    found = recognise(network.state_dict(), ordered=True, image_size=(16, 16))
    assert "unused copy" in found[0].notes[0]
    assert "sub_block1" in found[0].notes[0]
    assert matching(network.state_dict(), logits(network)) == [0]


def test_names_that_group_nothing_go_by_order() -> None:
    network = randomise(CifarResNet())
    convs = [v for v in network.state_dict().values() if v.dim() == 4]
    flat = {f"convs.{i}.weight": value for i, value in enumerate(convs)}
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        flat |= {f"norms.{index}.{leaf}": value for leaf, value in norm.state_dict().items()}
    weights = network.state_dict()
    flat |= {"head.weight": weights["linear.weight"], "head.bias": weights["linear.bias"]}
    assert matching(flat, logits(network)) == [0]
    assert matching(sorted_names(flat), logits(network), ordered=False) == [0]


def test_what_other_blocks_call_alike_decides_where_shapes_do_not() -> None:
    """In the first block all norms and two convolutions have one shape, and no alphabet helps."""
    network = randomise(CifarPreResNet(stem=4))
    words = {"bn1": "m", "bn2": "a", "bn3": "z", "conv3": "q", "downsample": "b"}
    weights = {
        ".".join(words.get(part, part) if "layer" in name else part for part in name.split(".")): v
        for name, v in network.state_dict().items()
    }
    assert matching(sorted_names(weights), logits(network), ordered=False)[:1] == [0]


def test_what_shares_a_prefix_belongs_together_in_an_inception() -> None:
    """The file has the batch norms in reverse order, behind the convolutions."""
    network = randomise(SmallInception())
    weights = network.state_dict()
    norms = [name for name in weights if ".bn." in name]
    forward = [name for name in weights if ".bn." not in name]
    assert matching(
        {name: weights[name] for name in (*forward, *norms[::-1])}, logits(network)
    ) == [0]


@pytest.mark.parametrize("code", ["preresnet", "inception"])
def test_names_without_groups_go_by_order_in_the_new_families(code: str) -> None:
    network = randomise(CifarPreResNet(3) if code == "preresnet" else SmallInception())
    weights = network.state_dict()
    flat: dict[str, Tensor] = {}
    for kind, prefix in ((nn.Conv2d, "convs"), (nn.BatchNorm2d, "norms")):
        modules = [module for module in network.modules() if isinstance(module, kind)]
        for index, module in enumerate(modules):
            flat |= {f"{prefix}.{index}.{leaf}": v for leaf, v in module.state_dict().items()}
    flat |= {"head.weight": weights["fc.weight"], "head.bias": weights["fc.bias"]}
    assert matching(flat, logits(network)) == [0]
    assert matching(sorted_names(flat), logits(network), ordered=False) == [0]


def test_a_narrow_inception_has_convolutions_alike() -> None:
    """Several have the same channels and filters; which is which, their order tells."""
    spec = spec_of("inception-x0.057", input_shape=(3, 16, 16))
    assert inception.SmallInception(0.057).stages[1] == (5, ((6, 3), (5, 4), (5, 5), (3, 5)))
    shapes = [tuple(v.shape) for v in build(spec).state_dict().values() if v.dim() == 4]
    assert len(set(shapes)) < len(shapes)
    network = randomise(build(spec))
    for ordered in (True, False):
        weights = network.state_dict()
        weights = weights if ordered else sorted_names(weights)
        found = recognise(weights, ordered=ordered, image_size=(16, 16), arch=spec.name)
        assert found[0].spec == spec
        assert torch.equal(run(found[0]), logits(network))


def test_an_inception_without_learned_scales_keeps_its_parameters() -> None:
    """Scales of others are kept as they are; they are no parameters of ours."""
    network = randomise(SmallInception())
    found = recognise(network.state_dict(), ordered=True, image_size=(16, 16))[0]
    ours = instantiate(found)
    assert torch.equal(
        ours.state_dict()["stages.0.0.point.bn.weight"],
        network.state_dict()["inc0.conv1x1.bn.weight"],
    )
    theirs = sum(p.numel() for n, p in network.named_parameters())
    scales = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert count_parameters(ours) == theirs - scales


@pytest.mark.parametrize(
    ("said", "shortcut", "stride_conv"),
    [
        ("preresnet-20x0.25,shortcut=preactivation,stride_conv=2", "preactivation", 2),
        ("preresnet-20x0.25,shortcut=input,stride_conv=2", "input", 2),
        ("inception-x0.125,shortcut=unpadded", "unpadded", 1),
    ],
)
def test_what_the_new_families_do_not_show_can_be_stated(
    said: str, shortcut: str, stride_conv: int
) -> None:
    network = CifarPreResNet() if "preresnet" in said else SmallInception()
    (found,) = recognise(randomise(network).state_dict(), ordered=True, arch=said)
    unseen = architecture(found.spec).unseen
    assert (unseen["shortcut"], unseen.get("stride_conv", 1)) == (shortcut, stride_conv)
    assert statement_of(found.spec) == said


def test_what_an_inception_lacks_is_said() -> None:
    weights = dict(randomise(SmallInception()).state_dict())
    weights["inc9.conv1x1.conv.weight"] = weights["inc9.conv1x1.conv.weight"][:-1]
    with pytest.raises(CheckpointError, match=r"lacks a 1x1 convolution of 42 channels with 22 f"):
        recognise(weights, ordered=True)


def test_bottlenecks_of_other_networks_are_told_apart() -> None:
    weights = dict(randomise(CifarBottleneck()).state_dict())
    with pytest.raises(CheckpointError, match="are post-activation"):
        recognise(weights, ordered=True)
    weights = dict(randomise(CifarPreResNet()).state_dict())
    del weights["layer2.0.downsample.0.weight"]
    with pytest.raises(CheckpointError, match=r"'layer2.0' changes the number of channels without"):
        recognise(weights, ordered=True)
    wrong = {"layer2.0.bn1": nn.BatchNorm2d(5), "layer2.0.bn2": nn.BatchNorm2d(5)}
    weights = dict(randomise(CifarPreResNet()).state_dict())
    for name, norm in wrong.items():
        weights |= {f"{name}.{leaf}": value for leaf, value in norm.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"batch norms of 5, 5, 8 channels, not of 16, 8 and"):
        recognise(weights, ordered=True)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(("side", "pool"), [(32, 4), (32, 2), (40, 5), (32, 1)])
def test_a_wide_stem_and_averages_over_windows(side: int, pool: int, everywhere: bool) -> None:
    network = randomise(WindowedResNet(2, 4, side=side, pool=pool, everywhere=everywhere))
    found, *_ = recognise(network.state_dict(), ordered=True, image_size=(side, side))
    shortcut = "conv-all" if everywhere else "conv"
    fields = {"input_shape": (3, side, side), "shortcut": shortcut, "stem_channels": 16}
    assert found.spec == spec_of("resnet-14x0.25", pool=pool, **fields)
    assert f"averages over {pool}x{pool} windows" in found.doubt
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(instantiate(found)(images), network(images))
    said = f"resnet-14x0.25-b,shortcut={shortcut},pool={pool}"
    stated = recognise(network.state_dict(), ordered=True, arch=said, image_size=(side, side))[0]
    assert (stated.spec, stated.doubt) == (found.spec, "")
    assert costs_of(found.spec).params == count_parameters(network)


def test_the_public_layout_of_256_values_is_read() -> None:
    network = randomise(WindowedResNet())
    found = recognise(network.state_dict(), ordered=True)
    assert {
        (each.spec.name, each.spec.parameters["stem_channels"], each.spec.parameters["pool"])
        for each in found
    } == {("resnet-20-b", 64, 4)}
    assert costs_of(found[0].spec).params == count_parameters(network)
    with pytest.raises(CheckpointError, match="last map, here 7x7, cannot be that many"):
        recognise(network.state_dict(), ordered=True, image_size=(28, 28))


def test_embedded_normalisation_is_found() -> None:
    weights = dict(randomise(XternalzWRN()).state_dict())
    weights["norm.mean"] = torch.tensor([0.49, 0.48, 0.44]).view(1, 3, 1, 1)
    weights["norm.std"] = torch.tensor([0.24, 0.25, 0.26]).view(1, 3, 1, 1)
    found = recognise(weights, ordered=True)[0]
    assert found.normalization == Normalization((0.49, 0.48, 0.44), (0.24, 0.25, 0.26))
    weights["norm.mean"] = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    weights["norm.std"] = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    found = recognise(weights, ordered=True)[0]
    assert found.normalization == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_classifier_as_a_convolution_and_half_precision() -> None:
    network = randomise(XternalzWRN(1, 1)).half()
    weights = dict(network.state_dict())
    weights["fc.weight"] = weights["fc.weight"][:, :, None, None]
    found = recognise(weights, ordered=True, image_size=(16, 16))[0]
    assert any("float16" in note for note in found.notes)
    assert torch.allclose(run(found), logits(network.float()), atol=1e-3)


def test_shortcut_in_a_first_block_that_needs_none() -> None:
    spec = spec_of("wrn-16-1", input_shape=(3, 16, 16), first_shortcut=True)
    network = randomise(build(spec))
    found = recognise(network.state_dict(), ordered=True, image_size=(16, 16))[0]
    assert found.spec == spec
    assert torch.equal(run(found), logits(network))


@pytest.mark.parametrize(
    "name",
    [
        "wrn-10-1",
        "wrn-16-2",
        "wrn-10-0.5",
        "resnet-8",
        "resnet-20-b",
        "preresnet-11",
        "preresnet-20x1.5",
        "inception",
        "inception-x0.3",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_our_own_names_are_recognised_too(name: str, channels: int) -> None:
    spec = spec_of(name, num_classes=7, input_shape=(channels, 32, 32))
    found = recognise(randomise(build(spec)).state_dict(), ordered=True)
    assert spec in [hypothesis.spec for hypothesis in found]


def test_arch_must_agree() -> None:
    weights = randomise(XternalzWRN(1, 2)).state_dict()
    assert recognise(weights, ordered=True, arch="wrn-10-2")
    with pytest.raises(CheckpointError, match=r"are a wrn-10-2, not the wrn-40-2"):
        recognise(weights, ordered=True, arch="wrn-40-2")


def test_a_statement_decides_what_weights_do_not_show() -> None:
    weights = randomise(CifarResNet()).state_dict()
    said = "resnet-14x0.25,shortcut=pad,stride_conv=2"
    (found,) = recognise(weights, ordered=True, arch=said)
    assert (found.spec.parameters["shortcut"], found.spec.parameters["stride_conv"]) == ("pad", 2)
    assert statement_of(found.spec) == said
    padded = recognise(weights, ordered=True, arch="resnet-14x0.25,stride-conv=1")
    assert [h.spec.parameters["shortcut"] for h in padded] == ["pad-both", "pad"]
    for wrong, message in (
        ("resnet-14x0.25-b", r"with shortcut=pad-both or pad, not the stated conv"),
        ("resnet-14x0.25,num_classes=7", r"with num_classes=10, not the stated 7"),
        ("resnet-20x0.25,shortcut=pad", r"a resnet-14x0.25, not the resnet-20x0.25"),
    ):
        with pytest.raises(CheckpointError, match=message):
            recognise(weights, ordered=True, arch=wrong)
    option_b = randomise(CifarResNet(shortcut="conv")).state_dict()
    assert recognise(option_b, ordered=True, arch="resnet-14x0.25")
    with pytest.raises(CheckpointError, match="with shortcut=conv, not the stated pad or pad-both"):
        recognise(option_b, ordered=True, arch="resnet-14x0.25-a")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("alexnet", "is not the name of a network"),
        ("resnet-20,shortcuts=pad", "Did you mean 'shortcut'"),
        ("resnet-20,pad", "is not FIELD=VALUE"),
        ("resnet-20,shortcut=zero", "known for resnet: pad, pad-both, conv"),
        ("resnet-20,stride_conv=3", "must be from 1 to 2"),
        ("resnet-20,stride_conv=two", "not a whole number"),
        ("resnet-20,conv_bias=maybe", "not yes or no"),
        ("resnet-20,shortcut=pad,shortcut=conv", "twice"),
        ("resnet-20-b,shortcut=pad", "is contradictory"),
        ("resnet-20-a,shortcut=conv", "is contradictory"),
    ],
)
def test_a_wrong_statement_is_refused(said: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Statement.parse(said)
    if "shortcuts" in said:
        with pytest.raises(UnknownName):
            Statement.parse(said)


def test_a_stated_width_is_taken_where_rounding_hides_it() -> None:
    spec = spec_of("wrn-10-0.3282")
    assert Wrn(10, 0.3282).stage_channels == (5, 11, 21)
    weights = randomise(build(spec)).state_dict()
    with pytest.raises(CheckpointError, match="5, 11 and 21 wide, not 1:2:4"):
        recognise(weights, ordered=True)
    found = recognise(weights, ordered=True, arch="wrn-10-0.3282")
    assert found[0].spec == spec


def test_a_statement_makes_up_for_an_order_that_nothing_keeps() -> None:
    """One flat word a layer, no number, in a file without order."""
    network = randomise(XternalzWRN(2))
    layers: dict[str, str] = {}
    weights = {}
    for name, value in network.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        count = len(layers)
        word = layers.setdefault(layer, "q" + chr(97 + count // 26) + chr(97 + count % 26))
        if leaf != "num_batches_tracked":
            weights[f"{word}.{leaf}"] = value
    with pytest.raises(CheckpointError, match="State the architecture"):
        recognise(sorted_names(weights), ordered=False)
    found = recognise(sorted_names(weights), ordered=False, arch="wrn-16-1", image_size=(16, 16))
    assert "alphabetical order" in found[0].notes[0]
    assert torch.allclose(run(found[0]), logits(network), atol=1e-3)


class CifarBottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = []
        inputs = 16
        for width in (16, 32, 64):
            for _ in range(2):
                blocks.append(
                    nn.Sequential(
                        nn.Conv2d(inputs, width, 1),
                        nn.BatchNorm2d(width),
                        conv3(width, width),
                        nn.BatchNorm2d(width),
                        nn.Conv2d(width, 4 * width, 1),
                        nn.BatchNorm2d(4 * width),
                    )
                )
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, 10)


@pytest.mark.parametrize(
    ("builder", "seen"),
    [
        (lambda: torchvision.models.resnet18(), "7x7 stem"),
        (lambda: torchvision.models.resnet50(), "bottleneck blocks"),
        (CifarBottleneck, "bottleneck blocks"),
        (lambda: torchvision.models.vgg11_bn(), "3 linear layers"),
        (lambda: torchvision.models.mobilenet_v2(), "depthwise"),
        (
            lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=10),
            "8x8 stem",
        ),
        (lambda: CifarResNet(1, (4, 8, 32)), "not 1:2:4"),
        (lambda: nn.Linear(3, 4), "no convolution"),
        (lambda: nn.Sequential(CifarResNet(1), CifarResNet(1)), "2 of its 14"),
    ],
)
def test_other_networks_are_refused_and_described(
    builder: Callable[[], nn.Module], seen: str
) -> None:
    with torch.device("meta"):
        network = builder()
    weights = {name: torch.empty_like(v, device="cpu") for name, v in network.state_dict().items()}
    for value in weights.values():
        value.zero_()
    with pytest.raises(CheckpointError, match="known networks are wide residual") as error:
        recognise(weights, ordered=True)
    assert seen in str(error.value)


def test_what_has_no_place_is_named() -> None:
    weights = dict(randomise(XternalzWRN()).state_dict())
    weights["rotation_head.scale"] = torch.zeros(5)
    with pytest.raises(CheckpointError, match=r"'rotation_head.scale' \(5\) does not belong"):
        recognise(weights, ordered=True)
    del weights["rotation_head.scale"]
    del weights["block2.layer.1.conv2.weight"]
    with pytest.raises(CheckpointError):
        recognise(weights, ordered=True)
