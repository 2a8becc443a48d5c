"""compress recipes: the methods of distill, their papers and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


# Columns that the table needs to cut no word.
WIDE = 160


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool) -> None:
    """List the methods of distill with their papers, options and measured accuracy.

    Piped output has one line for each method.
    """
    import json

    listing = list_recipes()
    if as_json:
        click.echo(json.dumps(listing, indent=2))
    else:
        print_recipes(listing)


def list_recipes() -> dict[str, Any]:
    """What --json prints: the default's name, the recipes, and in which experiment they met."""
    import json
    from importlib.resources import files

    from compress.recipes.registry import DEFAULT_RECIPE, RECIPES, make_recipe

    found = json.loads((files("compress.recipes") / "found.json").read_text(encoding="utf-8"))
    recipes = [make_recipe(name) for name in RECIPES]
    return {
        "default": DEFAULT_RECIPE,
        "experiment": found["experiment"],
        "recipes": [
            {
                "name": recipe.name,
                "summary": recipe.summary,
                "paper": recipe.paper,
                "needs_teacher": bool(recipe.teacher_outputs),
                "options": recipe.to_dict(),
                "test_accuracy": found["test_accuracy"].get(recipe.name),
            }
            for recipe in recipes
        ],
    }


def print_recipes(listing: dict[str, Any], console: Console | None = None) -> None:
    """One row a method, the name first and never wrapped."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console(highlight=False, markup=False)
    if not console.is_terminal:
        # Piped output is wrapped by nobody.
        console.width = 1000
    elif console.width < WIDE:
        _print_blocks(listing, console)
        _print_notes(listing, console)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found*", no_wrap=True)
    for header in ("what", "paper", "options"):
        table.add_column(header)
    for recipe in listing["recipes"]:
        options = ", ".join(_option(name, value) for name, value in recipe["options"].items())
        table.add_row(
            recipe["name"],
            "default" if recipe["name"] == listing["default"] else "",
            _found(recipe["test_accuracy"]),
            recipe["summary"],
            recipe["paper"],
            options or "-",
        )
    console.print(table)
    _print_notes(listing, console)


def _print_blocks(listing: dict[str, Any], console: Console) -> None:
    """A paragraph a method, for terminals on which a table would cut words."""
    from rich.padding import Padding
    from rich.text import Text

    for recipe in listing["recipes"]:
        default = "  default" if recipe["name"] == listing["default"] else ""
        console.print(f"{recipe['name']}{default}  {_found(recipe['test_accuracy'])}*")
        options = ", ".join(_option(name, value) for name, value in recipe["options"].items())
        for line in (recipe["summary"], recipe["paper"], options):
            if line:
                console.print(Padding(Text(line), (0, 0, 0, 4)))


def _print_notes(listing: dict[str, Any], console: Console) -> None:
    console.print(
        f"* Test accuracy in % (mean ± standard deviation, seeds) of {listing['experiment']}. "
        "Other data, students and schedules may rank them differently."
    )
    console.print("Set an option of a recipe with `compress distill --set name=value`.")


def _found(accuracy: dict[str, Any] | None) -> str:
    """'68.43 ± 0.31 (3)'; '-' where there is nothing."""
    if accuracy is None:
        return "-"
    deviation = accuracy["standard_deviation"]
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return f"{100 * accuracy['mean']:.2f}{spread} ({accuracy['n']})"


def _option(name: str, value: Any) -> str:
    """As --set takes it."""
    if isinstance(value, bool):
        return f"{name}={'yes' if value else 'no'}"
    return f"{name}={'none' if value is None else value}"
