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


@pytest.mark.parametrize(
    ("mean", "std", "unit_mean", "unit_std"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), None, None),
        # A mean of 0 and a deviation of 1 are of either scale.
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((127.5,), (127.5,), (0.5,), (0.5,)),
        ((102.0, 51.0, 0.0), (51.0, 51.0, 51.0), (0.4, 0.2, 0.0), (0.2, 0.2, 0.2)),
        ((102.0,), (1.0,), (0.4,), (0.003921569,)),
    ],
)
def test_a_normalisation_of_bytes_is_divided_by_255(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    unit_mean: tuple[float, ...] | None,
    unit_std: tuple[float, ...] | None,
) -> None:
    found = Normalization(mean, std)
    imagenet = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = Normalization(unit_mean, unit_std) if unit_mean and unit_std else imagenet
    assert found == expected
    assert found.to_dict() == expected.to_dict()
    assert found.of_bytes
    assert not expected.of_bytes
    text = "/".join(",".join(map(str, values)) for values in (mean, std))
    assert Normalization.parse(text) == expected


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225)),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375)),
        ((123.675, 0.456, 103.53), (58.395, 57.12, 57.375)),
        ((-123.675, -116.28, -103.53), (58.395, 57.12, 57.375)),
        ((31_000.0,), (14_000.0,)),
        ((0.0,), (256.0,)),
    ],
)
def test_a_normalisation_of_two_scales_is_refused_with_what_was_found(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(UsageError, match="fit neither") as error:
        Normalization(mean, std)
    assert str(mean) in str(error.value)
    assert str(std) in str(error.value)


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
    plain: dict[str, object] = {"arch": "wrn", "depth": 10, "input_shape": [3, 32, 32]}
    assert ModelSpec.from_dict(plain).name == "wrn-10-1"
    with pytest.raises(UsageError):
        ModelSpec.from_dict(plain | changes)


@pytest.mark.parametrize(
    "name", ["wrn-60000000004-2", "resnet-" + "9" * 5000, "wrn-10-" + "9" * 400]
)
def test_names_of_endless_networks_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        ModelSpec.parse(name)


def test_a_pool_is_a_window_of_the_last_map() -> None:
    spec = ModelSpec.parse("resnet-20-b", pool=4)
    assert (spec.last_map, spec.classifier_inputs) == ((8, 8), 256)
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ModelSpec.parse("resnet-20", pool=3, input_shape=(3, 28, 40)).classifier_inputs == 384
    with pytest.raises(UsageError, match="pool is 9, the last map is 8x8"):
        ModelSpec.parse("resnet-20", pool=9)
    with pytest.raises(UsageError, match="only a resnet"):
        ModelSpec.parse("wrn-10-1", pool=4)


def test_a_budget_names_every_impossible_limit() -> None:
    with pytest.raises(UsageError) as caught:
        Budget(latency_s=-0.002, size_bytes=float("nan"), batch=0, percentile=100)
    message = str(caught.value)
    assert "--budget-ms is -2," in message
    for option in ("--budget-mb", "--batch", "--percentile"):
        assert option in message


def test_a_speedup_is_a_ratio_of_medians() -> None:
    with pytest.raises(UsageError, match="--speedup compares medians"):
        Budget(speedup=2, percentile=90)
    assert Budget(latency_s=1e-3, percentile=99).percentile == 99


def test_a_budget_without_a_limit_chooses_nothing() -> None:
    assert not Budget(batch=8).limited
    with pytest.raises(UsageError, match="--speedup"):
        Budget().require_limit()
