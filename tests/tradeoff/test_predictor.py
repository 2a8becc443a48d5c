from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from compress.models.registry import spec_of
from compress.tradeoff.candidates import dominates, grid
from compress.tradeoff.predictor import (
    EXPECTED_LOSS,
    Predictor,
    fit,
    leave_one_out,
    shipped_rows,
)
from compress.tradeoff.runs import OwnRun

# CIFAR-100 error in %, Tian et al., "Contrastive Representation Distillation", arXiv 1910.10699:
# the students and teachers of its table, as its repository lists them. None is fitted.
OTHERS = {
    "wrn-40-2": 24.39,
    "resnet-110": 25.69,
    "wrn-16-2": 26.74,
    "resnet-56": 27.66,
    "wrn-40-1": 28.02,
    "resnet-32": 28.86,
    "resnet-20": 30.94,
}


SHIPPED = Predictor()


def error(name: str, predictor: Predictor = SHIPPED) -> float:
    return predictor.predict(spec_of(name)).error


def own(
    name: str, value: float, recipe: str = "kd", epochs: int = 30, train_images: int = 45_000
) -> OwnRun:
    return OwnRun("data", name, recipe, epochs, train_images, value, 1000, 0)


def test_the_table_is_the_papers() -> None:
    rows = {(row.spec.name, row.group): row.error for row in shipped_rows()}
    assert len(rows) == 9 * 3 + 1
    assert rows["wrn-10-2", "supervised"] == pytest.approx(0.3322)
    assert rows["wrn-10-4", "kd"] == pytest.approx(0.2716)
    assert rows["wrn-34-4", "logit-gan"] == pytest.approx(0.2073)
    assert rows["wrn-40-10", "supervised"] == pytest.approx(0.2062)


def test_the_table_is_predicted_within_two_points_and_left_out_rows_within_half_a_point() -> None:
    for recipe in ("supervised", "kd", "logit-gan"):
        predictor = Predictor(recipe=recipe)
        for row in shipped_rows():
            if row.group == recipe:
                assert predictor.predict(row.spec).error == pytest.approx(row.error, abs=0.02)
    assert 0.002 < leave_one_out() == SHIPPED.leave_one_out < 0.005


def test_a_recipe_without_a_column_counts_as_kd() -> None:
    spec = spec_of("wrn-16-2", num_classes=100)
    errors = {recipe: Predictor(recipe=recipe).predict(spec).error for recipe in ("dist", "kd")}
    assert errors["dist"] == errors["kd"] != Predictor(recipe="supervised").predict(spec).error


@pytest.mark.parametrize("name", OTHERS)
def test_what_others_published_is_predicted_within_two_points(name: str) -> None:
    assert 100 * error(name) == pytest.approx(OTHERS[name], abs=2.0)


def test_what_others_published_comes_out_in_order() -> None:
    """Pairs whose published errors are more than a point apart."""
    for better, worse in itertools.combinations(sorted(OTHERS, key=lambda n: OTHERS[n]), 2):
        if OTHERS[worse] - OTHERS[better] > 1.3:
            assert error(better) < error(worse), (better, worse)


def test_width_one_and_resnets_are_sane() -> None:
    assert error("wrn-10-1") > error("wrn-10-2") + 0.05
    assert error("wrn-22-1") < error("resnet-20") + 0.02 < error("wrn-16-1") + 0.02
    assert 0.3 < error("wrn-16-1") < 0.37
    assert 0.4 < error("wrn-10-1") < 0.55
    assert error("wrn-40-10") < error("wrn-28-10") < error("wrn-16-10") < error("wrn-10-10")


def test_error_falls_with_depth_and_with_width_by_less_and_less() -> None:
    predictor = Predictor()
    candidates = grid(num_classes=10, input_shape=(3, 32, 32))
    for one, other in itertools.permutations(candidates, 2):
        if dominates(one.spec, other.spec):
            assert predictor.predict(one.spec).error < predictor.predict(other.spec).error
    widths = [error(f"wrn-16-{width}") for width in range(1, 11)]
    gains = [a - b for a, b in itertools.pairwise(widths)]
    assert gains == sorted(gains, reverse=True)
    assert error("wrn-106-40") > 0.18


def test_the_order_is_the_same_for_any_classes_and_images() -> None:
    predictor = Predictor()
    one = [predictor.predict(c.spec) for c in grid(num_classes=2, input_shape=(1, 64, 64))]
    other = [predictor.predict(c.spec) for c in grid(num_classes=1000, input_shape=(3, 32, 32))]
    assert one == other


@pytest.mark.parametrize(
    ("name", "basis"),
    [
        ("wrn-10-4", "table"),
        ("wrn-40-10", "table"),
        ("wrn-10-3", "between"),
        ("wrn-10-2.5", "between"),
        ("wrn-16-4", "table"),
        ("wrn-10-1", "extrapolated"),
        ("wrn-40-4", "extrapolated"),
        ("wrn-16-2", "extrapolated"),
        ("resnet-56", "extrapolated"),
    ],
)
def test_what_the_table_does_not_reach_is_marked(name: str, basis: str) -> None:
    assert Predictor().predict(spec_of(name)).basis == basis


def test_one_own_run_sets_the_level_and_leaves_the_order() -> None:
    predictor = Predictor([own("wrn-10-2", 0.08)], recipe="kd", epochs=30)
    assert error("wrn-10-2", predictor) == pytest.approx(0.08)
    assert predictor.predict(spec_of("wrn-10-2")).basis == "own"
    ratio = error("wrn-16-4") / error("wrn-10-2")
    assert error("wrn-16-4", predictor) == pytest.approx(0.08 * ratio)


def test_own_runs_outweigh_the_table() -> None:
    """On this data depth does nothing and width does everything."""
    runs = [
        own(f"wrn-{depth}-{width}", 0.2 * width**-0.5) for depth in (10, 40) for width in (1, 2, 4)
    ]
    predictor = Predictor(runs, recipe="kd", epochs=30)
    assert error("wrn-10-4", predictor) < error("wrn-40-2", predictor)
    assert error("wrn-10-4") > error("wrn-40-2")
    for run in runs:
        assert error(run.name, predictor) == pytest.approx(run.error, rel=0.15)


def test_own_runs_of_other_lengths_are_not_set_off_against_each_other() -> None:
    """A deep network after one epoch is worse than a shallow one after fifty; that says nothing."""
    runs = [own("wrn-40-4", 0.5, epochs=1), own("wrn-10-1", 0.1, epochs=50)]
    predictor = Predictor(runs, recipe="kd", epochs=50)
    assert error("wrn-40-4", predictor) < error("wrn-10-1", predictor) == pytest.approx(0.1)


def test_a_trial_on_few_images_is_not_set_off_against_a_whole_run() -> None:
    whole = [own("wrn-10-1", 0.1)]
    trials = [own(name, 0.7, train_images=500) for name in ("wrn-16-4", "wrn-40-4")]
    predictor = Predictor(trials + whole, recipe="kd", epochs=30)
    assert error("wrn-10-1", predictor) == pytest.approx(0.1)
    assert error("wrn-40-4", predictor) < 0.1


def test_the_group_of_own_runs_is_the_nearest_there_is() -> None:
    runs = [own("wrn-10-2", 0.3, "supervised", 9), own("wrn-10-2", 0.2, "kd", 30)]
    for recipe, epochs, expected in (("kd", 30, 0.2), ("kd", 7, 0.2), ("supervised", None, 0.3)):
        predictor = Predictor(runs, recipe=recipe, epochs=epochs)
        assert error("wrn-10-2", predictor) == pytest.approx(expected)


def test_own_runs_of_other_families_say_nothing() -> None:
    others = [own("inception", 0.01), own("preresnet-164", 0.02)]
    predictor = Predictor(others, recipe="kd", epochs=30)
    assert predictor.own_rows == 0
    assert predictor.predict(spec_of("wrn-10-2")) == Predictor(recipe="kd").predict(
        spec_of("wrn-10-2")
    )
    assert Predictor([*others, own("wrn-10-2", 0.08)], recipe="kd", epochs=30).own_rows == 1


def test_perfect_own_runs_do_no_harm() -> None:
    predictor = Predictor([own("wrn-10-1", 0.0), own("wrn-10-2", 0.0)], recipe="kd", epochs=30)
    assert math.isfinite(error("wrn-40-10", predictor))
    assert error("wrn-10-2", predictor) <= 1e-3


def test_coefficients_are_never_negative() -> None:
    runs = [own("wrn-10-1", 0.1), own("wrn-40-4", 0.4)]  # the wrong way round
    rows = Predictor(runs, recipe="kd", epochs=30)
    assert error("wrn-40-4", rows) <= error("wrn-10-1", rows)
    coefficients, _ = fit(shipped_rows())
    assert (coefficients >= 0).all()


def test_fewer_bits_are_expected_to_cost_what_they_cost_in_own_runs() -> None:
    run = OwnRun("a" * 64, "wrn-10-2", "kd", 30, 4500, 0.10, 500, 0)
    spec = spec_of("wrn-16-4")
    plain = Predictor([run], recipe="kd", epochs=30)
    assert plain.predict(spec, "int8").loss == EXPECTED_LOSS["int8"]
    assert plain.predict(spec).loss == 0
    narrow = replace(run, precision="int8", error=0.106)
    known = Predictor([run, narrow], recipe="kd", epochs=30)
    # The mean of what is shipped and of the one run's 0.006.
    assert known.predict(spec, "int8").loss == pytest.approx((EXPECTED_LOSS["int8"] + 0.006) / 2)
    assert known.predict(spec, "bf16").loss == EXPECTED_LOSS["bf16"]
    # What is known of networks comes from float32 alone.
    assert known.predict(spec).error == plain.predict(spec).error
    assert known.own_rows == 1
    # A file of another training is no twin, and a gain is not expected to come again.
    other = replace(narrow, seed=1)
    assert Predictor([run, other]).predict(spec, "int8").loss == EXPECTED_LOSS["int8"]
    better = replace(narrow, error=0.05)
    assert Predictor([run, better]).predict(spec, "int8").loss == 0
