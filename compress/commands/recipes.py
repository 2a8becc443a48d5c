"""compress recipes: the methods of distill, their papers and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from compress.report.document import Document


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool) -> None:
    """List the methods of distill with their papers, options and measured accuracy.

    Piped output has one line for each method.
    """
    import json

    from compress.report import terminal

    listing = list_recipes()
    if as_json:
        click.echo(json.dumps(listing, indent=2))
    else:
        terminal.show(document_of(listing))


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


def document_of(listing: dict[str, Any]) -> Document:
    """One row a method."""
    from compress.report.document import Column, Document, Table, Text, names

    rows = []
    for recipe in listing["recipes"]:
        options = ", ".join(option_text(name, value) for name, value in recipe["options"].items())
        default = "default" if recipe["name"] == listing["default"] else ""
        found = found_text(recipe["test_accuracy"])
        rows.append((recipe["name"], default, found, recipe["summary"], recipe["paper"], options))
    columns = (
        *names("recipe", "", "found*"),
        *(Column(header, least=28) for header in ("what", "paper", "options")),
    )
    notes = (
        f"* Test accuracy in % (mean ± standard deviation, seeds) of {listing['experiment']}. "
        "Other data, students and schedules may rank them differently.",
        "Give distill an option of a recipe with --set name=value.",
    )
    return Document((Table(columns, tuple(rows)), *map(Text, notes)))


def found_text(accuracy: dict[str, Any] | None) -> str:
    """'68.43 ± 0.31 (3)'; '-' where there is nothing."""
    if accuracy is None:
        return "-"
    deviation = accuracy["standard_deviation"]
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return f"{100 * accuracy['mean']:.2f}{spread} ({accuracy['n']})"


def option_text(name: str, value: Any) -> str:
    """As --set takes it."""
    if isinstance(value, bool):
        return f"{name}={'yes' if value else 'no'}"
    return f"{name}={'none' if value is None else value}"
