"""compress.spec: what a network, a normalisation and a budget are."""

import json

import pytest

from compress.errors import UsageError
from compress.spec import Budget, ModelSpec, Normalization


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
    spec = ModelSpec.parse(text)
    assert spec.name == name
    assert ModelSpec.parse(spec.name) == spec


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
        ModelSpec.parse(text)


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
        ModelSpec.parse(text)


def test_a_depth_is_told_with_its_rule() -> None:
    with pytest.raises(UsageError, match=r"depth is 165, not 9n\+2; the nearest is 164"):
        ModelSpec.parse("preresnet-165")
    with pytest.raises(UsageError, match="depth is 22, an inception has 12"):
        ModelSpec("inception", 22)


def test_an_inception_has_nothing_of_residual_blocks() -> None:
    for fields in ({"stride_conv": 2}, {"first_shortcut": True}):
        with pytest.raises(UsageError, match="no residual blocks"):
            ModelSpec.parse("inception", **fields)
    with pytest.raises(UsageError, match="known for inception: padded, unpadded"):
        ModelSpec.parse("inception", shortcut="conv")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        ModelSpec("wrn", 10, -1.0, num_classes=1, input_shape=(3, 4, 4), dropout=1.0)
    for word in ("width", "num_classes", "8x8", "dropout"):
        assert word in str(caught.value)


def test_an_unknown_architecture_and_shortcut_are_refused() -> None:
    with pytest.raises(UsageError, match="wrn, resnet"):
        ModelSpec("vgg", 16)
    with pytest.raises(UsageError, match="preactivation, input"):
        ModelSpec("wrn", 10, shortcut="pad")


def test_stages_are_16_32_64_times_the_width() -> None:
    spec = ModelSpec("wrn", 16, 2.5)
    assert spec.blocks_per_stage == 2
    assert spec.stage_channels == (40, 80, 160)
    assert spec.stem_channels == 16
    assert ModelSpec("resnet", 20).blocks_per_stage == 3
    assert ModelSpec("resnet", 20, 4).stem_channels == 64
    assert ModelSpec("preresnet", 164).blocks_per_stage == 18
    assert ModelSpec("preresnet", 1001, 0.5).stage_channels == (32, 64, 128)
    assert ModelSpec("preresnet", 164, 2).stem_channels == 32
    assert ModelSpec("inception", 12).stage_channels == (80, 144, 336)
    assert ModelSpec("inception", 12, 0.5).stem_channels == 48


def test_a_changed_width_resets_the_stem() -> None:
    assert ModelSpec("resnet", 20, 4).with_(width=1.0).stem_channels == 16


def test_it_survives_json() -> None:
    spec = ModelSpec.parse("wrn-16-1.5", num_classes=7, input_shape=(1, 28, 24), dropout=0.3)
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"arch": "wrn", "depth": 10, "input_shape": [3, 32, 32], "colour": "red"},
        {"arch": "wrn", "input_shape": [3, 32, 32]},
        {"arch": "wrn", "depth": "ten", "input_shape": [3, 32, 32]},
        {"arch": "wrn", "depth": 10, "input_shape": "wide"},
    ],
)
def test_what_is_no_description_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ModelSpec.from_dict(values)


def test_a_normalisation_is_read_from_text() -> None:
    expected = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert Normalization.parse("0.5,0.4,0.3/0.2,0.2,0.1") == expected
    assert Normalization.parse("0.5/0.2").to_dict() == {"mean": [0.5], "std": [0.2]}


@pytest.mark.parametrize("text", ["", "imagnet", "1,2/3", "0.5/0", "0.5/-1", "nan/1", "1/2/3"])
def test_what_is_no_normalisation_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Normalization.parse(text)


def test_a_budget_names_every_impossible_limit() -> None:
    with pytest.raises(UsageError) as caught:
        Budget(latency_s=-0.002, size_bytes=float("nan"), batch=0, percentile=100)
    message = str(caught.value)
    assert "--budget-ms is -2," in message
    for option in ("--budget-mb", "--batch", "--percentile"):
        assert option in message


def test_a_speedup_is_a_ratio_of_medians() -> None:
    with pytest.raises(UsageError, match="--speedup is a ratio of medians"):
        Budget(speedup=2, percentile=90)
    assert Budget(latency_s=1e-3, percentile=99).percentile == 99


def test_a_budget_without_a_limit_chooses_nothing() -> None:
    assert not Budget(batch=8).limited
    with pytest.raises(UsageError, match="--speedup"):
        Budget().require_limit()
