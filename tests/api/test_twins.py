"""A function of the Python API and the command of its name agree: arguments, defaults, limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest

import compress
from compress.cli import load_command
from compress.training.keywords import TeachingKeywords, TrainingKeywords
from compress.training.options import DEFAULTS, TrainingOptions

# What only a command has: how its result is printed, and other spellings of an argument.
PRINTING = {"as_json", "as_markdown", "markdown", "junit", "plot"}
SPELLINGS = {"temperature", "lr_d", "inconclusive", "tests_itself"}
# What only a call has.
CALLING = {"say", "listener"}

PAIRS: dict[str, tuple[Callable[..., Any], ...]] = {
    "distill": (compress.distill,),
    "train": (compress.train,),
    "select": (compress.select,),
    "profile": (compress.profile,),
    "evaluate": (compress.evaluate,),
    "export": (compress.export,),
    "check": (compress.check, compress.self_test),
    "baseline update": (compress.update_baseline,),
}


def command_of(name: str) -> click.Command:
    group, _, inner = name.partition(" ")
    command = load_command(group)
    if inner:
        assert isinstance(command, click.Group)
        return command.commands[inner]
    return command


def arguments_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of a function's arguments and their defaults, those of a training one by one."""
    found: dict[str, Any] = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is inspect.Parameter.VAR_KEYWORD:
            keywords = TeachingKeywords if function is compress.distill else TrainingKeywords
            found |= {each: getattr(DEFAULTS, each) for each in keywords.__annotations__}
        else:
            found[name] = argument.default
    return found


def test_every_function_has_its_command() -> None:
    functions = {name for name in compress.__all__ if inspect.isfunction(getattr(compress, name))}
    assert functions == {each.__name__ for pair in PAIRS.values() for each in pair}


@pytest.mark.parametrize("name", PAIRS)
def test_a_command_has_the_arguments_of_its_function(name: str) -> None:
    options = {each.name or "" for each in command_of(name).params}
    arguments = {each for function in PAIRS[name] for each in arguments_of(function)}
    assert arguments - CALLING == options - PRINTING - SPELLINGS


@pytest.mark.parametrize("name", PAIRS)
def test_a_command_has_the_defaults_of_its_function(name: str) -> None:
    command = command_of(name)
    found = command.make_context(name, [], resilient_parsing=True).params
    for function in PAIRS[name]:
        arguments = arguments_of(function)
        for option in command.params:
            expected = arguments.get(option.name or "", inspect.Parameter.empty)
            if not isinstance(option, click.Option) or expected is inspect.Parameter.empty:
                continue
            value = found[option.name or ""]
            value = str(value) if isinstance(value, Path) else value
            assert (value or None) == (expected or None), option.name
            if expected not in (None, False):
                assert option.show_default, option.name


@pytest.mark.parametrize("function", [each for pair in PAIRS.values() for each in pair])
def test_a_function_tells_of_every_argument(function: Callable[..., Any]) -> None:
    told = inspect.getdoc(function) or ""
    arguments = inspect.signature(function).parameters
    assert all(f"{name}: " in told for name in arguments)
    assert "Raises:" in told
    assert f"compress.{function.__name__}(" in told
    assert all(each.annotation is not inspect.Parameter.empty for each in arguments.values())


def test_the_arguments_of_a_training_are_fields_of_its_options() -> None:
    hints = get_type_hints(TrainingOptions)
    given = get_type_hints(TeachingKeywords)
    assert {name: hints[name] for name in given} == given
    assert {each.name for each in fields(TrainingOptions)} - set(given) == {
        "milestones",
        "lr_factor",
    }


@pytest.mark.parametrize("name", PAIRS)
def test_what_people_need_first_comes_first_in_the_help(name: str) -> None:
    command = command_of(name)
    text = command.get_help(click.Context(command, info_name=name))
    first, *others = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert first == "Options:"
    assert others
    section = text.split("\nOptions:\n")[1].split("\n\n")[0]
    assert 2 <= sum(line.startswith("  -") for line in section.splitlines()) <= 6
