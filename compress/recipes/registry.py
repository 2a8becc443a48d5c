"""Recipe name -> recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.errors import UnknownName, UsageError
from compress.recipes.kd import KnowledgeDistillation
from compress.recipes.logit_gan import LogitGan
from compress.recipes.recipe import Recipe
from compress.recipes.supervised import Supervised

RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.name: recipe for recipe in (Supervised, KnowledgeDistillation, LogitGan)
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
    try:
        return RECIPES[name](**options)
    except TypeError as error:
        raise UsageError(f"Recipe '{name}' does not take these options: {error}.") from error
