"""compress recipes, and what the help of distill says of recipes and their options."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks.found import found
from compress.cli import load_command, main
from compress.commands.recipes import document_of, found_text, list_recipes, option_text
from compress.errors import UsageError
from compress.recipes.registry import DEFAULT_RECIPE, RECIPES, make_recipe
from compress.report import terminal
from tests.report.rendered import assert_rendered

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/cifar10_resnet56"


def test_piped_each_method_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["recipes"]) == 0
    head, *lines, _, experiment, note = capsys.readouterr().out.splitlines()
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
    shown = terminal.text_of(document_of(list_recipes()), 60)
    first = [line.split(" ")[0] for line in shown.splitlines()]
    assert [word for word in first if word in RECIPES] == list(RECIPES)
    assert max(map(len, shown.splitlines())) <= 60


def test_the_whole_on_terminals_and_in_markdown() -> None:
    def recipe(name: str, found: dict[str, Any] | None, **options: Any) -> dict[str, Any]:
        made = {"name": name, "summary": f"what {name} does, in some words (Eq. 4)"}
        return made | {"paper": "Somebody 2015", "options": options, "test_accuracy": found}

    found = {"mean": 0.6709, "standard_deviation": 0.0142, "n": 3}
    many = dict.fromkeys(("depth", "dropout", "learning_rate", "penalty"), 0.001)
    recipes = [recipe("plain", None), recipe("gan", found, yes=True, **many)]
    listing = {"default": "gan", "experiment": "some experiment", "recipes": recipes}
    assert_rendered(document_of(listing), "recipes")


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
    assert found_text(None) == "-"
    assert found_text({"mean": 0.684, "standard_deviation": None, "n": 1}) == "68.40 (1)"
    assert found_text({"mean": 0.684, "standard_deviation": 0.0031, "n": 3}) == "68.40 ± 0.31 (3)"


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
    assert found.show_default
    return found.help or "", str(found.default)


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
    texts = [option_text(option, value) for option, value in shown["options"].items()]
    read = make_recipe(name, **dict(text.split("=") for text in texts))
    assert read == make_recipe(name)
    assert read.to_dict() == shown["options"]


def test_options_of_the_wrong_form_are_told_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UsageError) as caught:
        make_recipe("kd", weight="much", standardise="1")
    for fault in ("'much' cannot be the value of weight", "'1' cannot be the"):
        assert fault in str(caught.value)
    assert make_recipe("kd", weight="0.9") == make_recipe("kd", weight=0.9)
    assert main(["distill", "--student", "wrn-10-1", "--set", "temperature"]) == 2
    assert "--set takes NAME=VALUE, and 'temperature' is none" in capsys.readouterr().err


def test_an_option_of_another_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", "--recipe", "dist", "--set", "standardise=yes", "--student", "wrn-10-1"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Recipe 'dist' has no option standardise; its options are beta, gamma, temp" in said


def test_eighty_columns_cut_nooption_text() -> None:
    shown = terminal.text_of(document_of(list_recipes()), 80)
    words = {word.strip(",") for word in shown.split()}
    for recipe in list_recipes()["recipes"]:
        assert {option_text(name, value) for name, value in recipe["options"].items()} <= words
    assert max(map(len, shown.splitlines())) <= 80
