"""Recipe name -> recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from compress.errors import UnknownName, UsageError
from compress.recipes.dist import Dist
from compress.recipes.dkd import DecoupledKnowledgeDistillation
from compress.recipes.kd import KnowledgeDistillation
from compress.recipes.logit_gan import LogitGan
from compress.recipes.recipe import Recipe
from compress.recipes.supervised import Supervised

RECIPES: dict[str, type[Any]] = {
    recipe.name: recipe
    for recipe in (
        Supervised,
        KnowledgeDistillation,
        DecoupledKnowledgeDistillation,
        Dist,
        LogitGan,
    )
}

# What `distill` takes when no recipe is named.
DEFAULT_RECIPE = "kd"


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
    recipe: Recipe = RECIPES[name](**options)
    return recipe
