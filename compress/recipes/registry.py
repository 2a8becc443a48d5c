"""Recipe name -> recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from compress import defaults
from compress.errors import UnknownName, UsageError
from compress.recipes.at import AttentionTransfer
from compress.recipes.dist import Dist
from compress.recipes.dkd import DecoupledKnowledgeDistillation
from compress.recipes.fitnet import FitNet
from compress.recipes.kd import KnowledgeDistillation
from compress.recipes.ktan import Dln, Ktan
from compress.recipes.logit_gan import LogitGan
from compress.recipes.recipe import Recipe
from compress.recipes.supervised import Supervised
from compress.schema import of_text

# What each takes as options: a dataclass that is the recipe.
RECIPES: dict[str, type[Any]] = {
    "supervised": Supervised,
    "kd": KnowledgeDistillation,
    "dkd": DecoupledKnowledgeDistillation,
    "dist": Dist,
    "logit-gan": LogitGan,
    "fitnet": FitNet,
    "at": AttentionTransfer,
    "dln": Dln,
    "ktan": Ktan,
    "ktan+kd": Ktan,
}
# Defaults that a name has beside those of its class.
DEFAULTS: dict[str, dict[str, Any]] = {"ktan+kd": {"weight": 0.9}}

# What `distill` takes when no recipe is named.
DEFAULT_RECIPE = defaults.RECIPE


def make_recipe(name: str, **options: Any) -> Recipe:
    """A recipe with its options; the paper's values where none are given.

    Raises:
        UsageError: no such recipe, no such option, or a value that it does not take.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    known = [field.name for field in fields(RECIPES[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        has = f"its options are {', '.join(known)}" if known else "it has none"
        raise UsageError(f"Recipe '{name}' has no option {', '.join(unknown)}; {has}.")
    recipe: Recipe = RECIPES[name](**{**DEFAULTS.get(name, {}), **_read(name, options)})
    return recipe


def _read(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options' values; a text for what is no text is read as a value of the option's type."""
    types, found, faults = get_type_hints(RECIPES[name]), {}, []
    for option, value in options.items():
        try:
            found[option] = of_text(types[option], value) if isinstance(value, str) else value
        except ValueError:
            faults.append(f"'{value}' cannot be the value of {option}")
    if faults:
        raise UsageError(f"Options of recipe '{name}': {'; '.join(faults)}.")
    return found


def check_task(recipe: Recipe, task: str) -> None:
    """Refuses a recipe whose equations mean nothing for a task.

    Raises:
        UsageError: the recipe does not serve the task; the message names recipes that do.
    """
    if _serves(recipe, task):
        return
    others = [name for name in RECIPES if _serves(make_recipe(name), task)]
    served = " and ".join(sorted(recipe.tasks or ()))
    raise UsageError(
        f"Recipe '{recipe.name}' serves {served}, and the data are of "
        f"{task}. Take one that serves it: {', '.join(others)}."
    )


def _serves(recipe: Recipe, task: str) -> bool:
    return recipe.tasks is None or task in recipe.tasks
