"""compress.models.registry: names, parameters and specs of the networks of every family."""

import json

import pytest
import torch

from compress.errors import UsageError
from compress.models.families.architecture import Architecture
from compress.models.families.inception import SmallInception
from compress.models.families.preresnet import PreactivationResNet
from compress.models.families.resnet import CifarResNet
from compress.models.families.wrn import Wrn
from compress.models.registry import FAMILIES, architecture, build, make_spec, read_spec, spec_of
from compress.spec import ModelSpec


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wrn-10-4", "wrn-10-4"),
        ("WRN_10_4", "wrn-10-4"),
        ("wrn10-4", "wrn-10-4"),
        ("wide-resnet-28-10", "wrn-28-10"),
        ("wrn-16-1.5", "wrn-16-1.5"),
        ("wrn-16-2.0", "wrn-16-2"),
        ("resnet20", "resnet-20"),
        ("ResNet-56", "resnet-56"),
        ("resnet-20-b", "resnet-20-b"),
        ("resnet-20-a", "resnet-20"),
        ("resnet8x4", "resnet-8x4"),
        (" resnet-110 ", "resnet-110"),
        ("preresnet-164", "preresnet-164"),
        ("PreResNet1001", "preresnet-1001"),
        ("preact_resnet_164", "preresnet-164"),
        ("pre-resnet-11x0.5", "preresnet-11x0.5"),
        ("inception", "inception"),
        ("Inception-x0.5", "inception-x0.5"),
        ("inceptionx1", "inception"),
    ],
)
def test_a_name_is_read_however_it_is_written(text: str, name: str) -> None:
    spec = spec_of(text)
    assert spec.name == name
    assert spec_of(spec.name) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vgg16",
        "wrn",
        "wrn-10",
        "wrn-10-4-2",
        "resnet-20-c",
        "4",
        "preresnet",
        "preresnet-164-b",
        "inception-v3",
        "inception-3",
        "xinception",
    ],
)
def test_an_unknown_name_is_answered_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="wrn-DEPTH-WIDTH"):
        spec_of(text)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("wrn-11-2", "10"),
        ("wrn-4-2", "10"),
        ("resnet-21", "20"),
        ("preresnet-165", "164"),
        ("preresnet-2", "11"),
        ("preresnet-1000", "1001"),
    ],
)
def test_a_depth_that_does_not_exist_is_answered_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"the nearest is {nearest}"):
        spec_of(text)


def test_a_depth_is_told_with_its_rule() -> None:
    with pytest.raises(UsageError, match=r"depth is 165, not 9n\+2; the nearest is 164"):
        spec_of("preresnet-165")


def test_an_inception_has_nothing_of_residual_blocks() -> None:
    for fields in ({"stride_conv": 2}, {"first_shortcut": True}, {"depth": 22}):
        with pytest.raises(UsageError, match=f"has no key {next(iter(fields))}"):
            spec_of("inception", **fields)
    with pytest.raises(UsageError, match="known for inception: padded, unpadded"):
        spec_of("inception", shortcut="conv")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        spec_of("wrn-10-1", width=-1.0, num_classes=0, input_shape=(3, 4, 4), dropout=1.0)
    for word in ("width", "num_classes", "8x8", "dropout"):
        assert word in str(caught.value)


def test_a_network_may_give_one_number() -> None:
    """Whether one is enough, the task says."""
    network = build(spec_of("wrn-10-1", num_classes=1)).eval()
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 1)


def test_an_unknown_architecture_and_shortcut_are_refused() -> None:
    with pytest.raises(UsageError, match="wrn, resnet"):
        make_spec("vgg", {"depth": 16})
    with pytest.raises(UsageError, match="preactivation, input"):
        spec_of("wrn-10-1", shortcut="pad")


def test_stages_are_16_32_64_times_the_width() -> None:
    own = Wrn(16, 2.5)
    assert own.blocks_per_stage == 2
    assert own.stage_channels == (40, 80, 160)
    assert own.stem_channels == 16
    assert CifarResNet(20).blocks_per_stage == 3
    assert CifarResNet(20, 4.0).stem_channels == 64
    assert PreactivationResNet(164).blocks_per_stage == 18
    assert PreactivationResNet(1001, 0.5).stage_channels == (32, 64, 128)
    assert PreactivationResNet(164, 2.0).stem_channels == 32
    assert SmallInception().stage_channels == (80, 144, 336)
    assert SmallInception(0.5).stem_channels == 48


def test_it_survives_json() -> None:
    spec = spec_of("wrn-16-1.5", num_classes=7, input_shape=(1, 28, 24), dropout=0.3)
    assert read_spec(json.loads(json.dumps(spec.to_dict()))) == spec


PLAIN: dict[str, object] = {
    "name": "wrn-10-1",
    "arch": "wrn",
    "depth": 10,
    "num_classes": 10,
    "input_shape": [3, 32, 32],
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        PLAIN | {"colour": "red"},
        {key: value for key, value in PLAIN.items() if key != "depth"},
        PLAIN | {"depth": "ten"},
        PLAIN | {"depth": 16},
        PLAIN | {"name": "wrn-10-2"},
        PLAIN | {"name": "\x1b[2Jwrn-10-1"},
        PLAIN | {"arch": "vgg"},
        PLAIN | {"input_shape": "wide"},
    ],
)
def test_what_is_no_description_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        read_spec(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 6 * 10**12 + 4},
        {"depth": 10.0},
        {"depth": True},
        {"depth": float("inf")},
        {"depth": None},
        {"depth": -2},
        {"depth": 10**400},
        {"width": 1e300},
        {"width": float("inf")},
        {"width": "2"},
        {"width": []},
        {"num_classes": 10**12},
        {"num_classes": 2.5},
        {"input_shape": [3, 10**12, 10**12]},
        {"input_shape": [3, 32.0, 32]},
        {"input_shape": ["3", "32", "32"]},
        {"input_shape": None},
        {"input_shape": [[3], 32, 32]},
        {"stem_channels": -1},
        {"stem_channels": 10**12},
        {"stride_conv": 1.0},
        {"conv_bias": 1},
        {"conv_bias": None},
        {"dropout": float("nan")},
        {"shortcut": 3},
        {"arch": None},
        {"pool": 2},
        {"pool": -1},
    ],
)
def test_numbers_and_types_of_a_description_are_checked(changes: dict[str, object]) -> None:
    assert read_spec(PLAIN) == spec_of("wrn-10-1")
    with pytest.raises(UsageError):
        read_spec(PLAIN | changes)


@pytest.mark.parametrize(
    "name", ["wrn-60000000004-2", "resnet-" + "9" * 5000, "wrn-10-" + "9" * 400]
)
def test_names_of_endless_networks_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        spec_of(name)


def test_a_pool_is_a_window_of_the_last_map() -> None:
    spec = spec_of("resnet-20-b", pool=4)
    assert CifarResNet(20, pool=4).classifier_inputs((32, 32)) == 256
    assert read_spec(json.loads(json.dumps(spec.to_dict()))) == spec
    assert CifarResNet(20, pool=3).classifier_inputs((28, 40)) == 384
    with pytest.raises(UsageError, match="pool is 9, the last map is 8x8"):
        spec_of("resnet-20", pool=9)


def test_what_a_file_says_of_a_network_is_checked_where_its_family_is_asked() -> None:
    """Until then it is a value that has a name."""
    stored = ModelSpec("wrn-10-1", "wrn", {"depth": 11}, 10, (3, 32, 32))
    with pytest.raises(UsageError, match="depth is 11, not 6n"):
        build(stored)
    with pytest.raises(UsageError, match="no known family; known are wrn, resnet"):
        architecture(ModelSpec("vgg-16", "vgg", {"depth": 16}, 10, (3, 32, 32)))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_candidates_are_names_of_their_family(family: type[Architecture]) -> None:
    for name in family.candidates((3, 32, 32)):
        assert spec_of(name).name == name
        assert spec_of(name).family == family.family
    published = family.published.errors if family.published else {}
    assert [spec_of(name).name for name in published] == list(published)
