"""compress recipes, and what the help of distill says of recipes and their options."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from rich.console import Console

from benchmarks.found import found
from compress.cli import load_command, main
from compress.commands.recipes import _found, _option, list_recipes, print_recipes
from compress.errors import UsageError
from compress.recipes.registry import DEFAULT_RECIPE, RECIPES, make_recipe, read_options

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/cifar10_resnet56"


def test_piped_each_method_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["recipes"]) == 0
    head, *lines, experiment, note = capsys.readouterr().out.splitlines()
    assert experiment.startswith("* Test accuracy in %")
    assert head.split()[0] == "recipe"
    assert [line.split()[0] for line in lines] == list(RECIPES)
    for line, name in zip(lines, RECIPES, strict=True):
        recipe = make_recipe(name)
        assert recipe.name == name
        assert recipe.paper in line
        assert recipe.summary in line
    (default,) = [line for line in lines if line.split()[1] == "default"]
    assert default.startswith(DEFAULT_RECIPE)
    kd = lines[list(RECIPES).index("kd")]
    assert kd.rstrip().endswith("temperature=5.0, weight=none, standardise=no")
    assert "depth=3" in lines[list(RECIPES).index("logit-gan")]
    assert "--set" in note


def test_a_narrow_terminal_wraps_no_name() -> None:
    screen = io.StringIO()
    print_recipes(list_recipes(), Console(file=screen, width=60, force_terminal=True))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    first = [line.split(" ")[0] for line in shown.splitlines()]
    assert [word for word in first if word in RECIPES] == list(RECIPES)
    assert max(map(len, shown.splitlines())) <= 60


def test_what_was_found_is_what_the_experiment_says() -> None:
    results = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    listing = list_recipes()
    made = found(results)
    assert listing["experiment"] == made["experiment"]
    for recipe in listing["recipes"]:
        assert recipe["test_accuracy"] == made["test_accuracy"].get(recipe["name"])
    table = (RESULTS / "table.md").read_text(encoding="utf-8")
    told = [float(text) for text in re.findall(r"\| (\d+\.\d+)", table)]
    for accuracy in made["test_accuracy"].values():
        assert any(figure == pytest.approx(100 * accuracy["mean"], abs=0.006) for figure in told)


def test_figures_are_told_with_their_spread_and_number() -> None:
    assert _found(None) == "-"
    assert _found({"mean": 0.684, "standard_deviation": None, "n": 1}) == "68.40 (1)"
    assert _found({"mean": 0.684, "standard_deviation": 0.0031, "n": 3}) == "68.40 ± 0.31 (3)"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["default"] == DEFAULT_RECIPE
    recipes = {recipe["name"]: recipe for recipe in found["recipes"]}
    assert list(recipes) == list(RECIPES)
    assert recipes["supervised"]["needs_teacher"] is False
    assert recipes["supervised"]["options"] == {}
    assert recipes["dkd"]["options"] == {
        "alpha": 1.0,
        "beta": 8.0,
        "temperature": 4.0,
        "standardise": False,
    }


def help_of(option: str) -> tuple[str, str]:
    """The help of one of distill's options, and the default that it tells."""
    (found,) = [
        parameter
        for parameter in load_command("distill").params
        if isinstance(parameter, click.Option) and parameter.name == option
    ]
    said = re.fullmatch(r"(.*) \[default: (.*)\]", found.help or "")
    assert said is not None
    return said[1], said[2]


def recipes_in(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+(?:[-+][a-z]+)*", text) if word in RECIPES]


def test_the_help_of_recipe_names_them_all() -> None:
    text, default = help_of("recipe")
    assert recipes_in(text) == list(RECIPES)
    assert default == DEFAULT_RECIPE


@pytest.mark.parametrize("option", ["temperature", "lr_d"])
def test_an_option_of_distill_s_own_belongs_to_a_recipe(option: str) -> None:
    assert any(option == field.name for recipe in RECIPES.values() for field in fields(recipe))


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_that_is_shown_can_be_set(name: str) -> None:
    (shown,) = [each for each in list_recipes()["recipes"] if each["name"] == name]
    texts = [_option(option, value) for option, value in shown["options"].items()]
    assert read_options(name, texts) == shown["options"]
    assert make_recipe(name, **read_options(name, texts)) == make_recipe(name)


def test_options_of_the_wrong_form_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        read_options("kd", ["temperature", "weight=much", "standardise=1"])
    for fault in ("'temperature' is not NAME=VALUE", "'much' cannot be", "'1' cannot be the"):
        assert fault in str(caught.value)
    assert read_options("kd", ["weight=0.9"]) == {"weight": 0.9}


def test_an_option_of_another_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", "--recipe", "dist", "--set", "standardise=yes", "--student", "wrn-10-1"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Recipe 'dist' has no option standardise; its options are beta, gamma, temp" in said


def test_eighty_columns_cut_no_option() -> None:
    screen = io.StringIO()
    print_recipes(list_recipes(), Console(file=screen, width=80, force_terminal=True))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    words = {word.strip(",") for word in shown.split()}
    for recipe in list_recipes()["recipes"]:
        assert {_option(name, value) for name, value in recipe["options"].items()} <= words
    assert max(map(len, shown.splitlines())) <= 80
