"""compress recipes, and what the help of distill says of recipes and their options."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields

import click
import pytest
from rich.console import Console

from compress.cli import load_command, main
from compress.commands.distill import RECIPE_OPTIONS
from compress.commands.recipes import list_recipes, print_recipes
from compress.recipes.registry import DEFAULT_RECIPE, RECIPES


def test_piped_each_method_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["recipes"]) == 0
    head, *lines, note = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "recipe"
    assert [line.split()[0] for line in lines] == list(RECIPES)
    for line, recipe in zip(lines, RECIPES.values(), strict=True):
        assert recipe.paper in line
        assert recipe.summary in line
    (default,) = [line for line in lines if line.split()[1] == "default"]
    assert default.startswith(DEFAULT_RECIPE)
    kd = lines[list(RECIPES).index("kd")]
    assert kd.rstrip().endswith("--temperature 5, --no-standardise")
    assert "depth=3" in lines[list(RECIPES).index("logit-gan")]
    assert "Python" in note


def test_a_narrow_terminal_wraps_no_name() -> None:
    screen = io.StringIO()
    print_recipes(list_recipes(), Console(file=screen, width=60, force_terminal=True))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    first = [line.split(" ")[0] for line in shown.splitlines()]
    assert [word for word in first if word in RECIPES] == list(RECIPES)
    assert max(map(len, shown.splitlines())) <= 60


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
    return [word for word in re.findall(r"[a-z]+(?:-[a-z]+)*", text) if word in RECIPES]


def test_the_help_of_recipe_names_them_all() -> None:
    text, default = help_of("recipe")
    assert recipes_in(text) == list(RECIPES)
    assert default == DEFAULT_RECIPE


@pytest.mark.parametrize("option", RECIPE_OPTIONS)
def test_the_help_of_an_option_names_its_recipes_and_defaults(option: str) -> None:
    defaults = {
        name: field.default
        for name, recipe in RECIPES.items()
        for field in fields(recipe)
        if field.name == option
    }
    text, default = help_of(option)
    assert recipes_in(text) == list(defaults)
    words = [
        "no" if value is False else f"{value}".removesuffix(".0") for value in defaults.values()
    ]
    assert default in (", ".join(words), words[0])
    assert default != words[0] or len(set(words)) == 1


def test_an_option_of_another_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", "--recipe", "dist", "--standardise", "--student", "wrn-10-1"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Recipe 'dist' has no option standardise; its options are beta, gamma, temp" in said
