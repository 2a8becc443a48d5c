"""What docs/checking.md says is so: commands, the workflow, the test that it shows."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from compress.gate.check import CheckRequest
from tests import test_readme
from tests.test_readme import ROOT

PAGE = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


(WORKFLOW,) = blocks("yaml")
STEPS = re.findall(r"^      - run: (.+)$", WORKFLOW, re.MULTILINE)
COMMANDS = [
    *(line for block in blocks("sh") for line in block.splitlines()),
    *STEPS,
    *re.findall(r"`(compress [^`]+)`", PAGE),
]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("compress ")])
def test_a_command_is_ours(line: str) -> None:
    test_readme.test_a_command_is_one_that_the_program_takes(line)


def test_every_option_is_one_of_a_command_that_the_page_is_about() -> None:
    from compress.commands import baseline, check

    known = {
        flag
        for command in (check.command, baseline.update, baseline.show)
        for parameter in command.params
        for flag in parameter.opts
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named <= known
    assert "--max-slowdown" in named


def read_yaml(text: str) -> Any:
    """Maps, lists, texts and block scalars: what the workflow is made of; all else is refused."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert not any("\t" in line for line in lines)

    def depth(line: str) -> int:
        return len(line) - len(line.lstrip(" "))

    def value(text: str, deeper: int) -> Any:
        if text == "|":
            kept = []
            while lines and depth(lines[0]) >= deeper:
                kept.append(lines.pop(0).strip())
            return "\n".join(kept)
        if text:
            assert ": " not in text or text[0] in "\"'[", text
            if text[0] == "[":
                return text.strip("[]").split(", ")
            return text.strip("\"'")
        return node(deeper)

    def node(at: int) -> Any:
        assert lines, "something is missing at the end"
        assert depth(lines[0]) >= at, lines[0]
        at = depth(lines[0])
        found: Any = [] if lines[0].lstrip().startswith("- ") else {}
        while lines and depth(lines[0]) == at:
            line = lines.pop(0)
            if isinstance(found, list):
                assert line.lstrip().startswith("- "), line
                lines.insert(0, " " * (at + 2) + line.lstrip()[2:])
                found.append(node(at + 2))
                continue
            key, colon, rest = line.strip().partition(":")
            assert colon, line
            assert not key.startswith("- "), line
            assert rest == "" or rest.startswith(" "), line
            assert key not in found, line
            found[key] = value(rest.strip(), at + 1)
        assert not lines or depth(lines[0]) < at, lines[0]
        return found

    found = node(0)
    assert not lines
    return found


def test_the_workflow_is_one() -> None:
    workflow = read_yaml(WORKFLOW)
    assert set(workflow) == {"name", "on", "jobs"}
    assert workflow["on"] == ["pull_request"]
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    assert [set(step) & {"uses", "run"} for step in job["steps"]] == [
        {"uses"},
        {"uses"},
        {"run"},
        {"run"},
        {"uses"},
    ]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d", s["uses"]) for s in job["steps"] if "uses" in s)
    uploaded = job["steps"][-1]
    assert uploaded["if"] == "always()"
    check = shlex.split(job["steps"][3]["run"])
    written = {check[check.index("--junit") + 1], check[check.index("--markdown") + 1]}
    assert set(uploaded["with"]["path"].split("\n")) == written


def test_what_is_installed_is_this_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert STEPS[0] == f"python -m pip install {project['name']}"
    version = re.search(r'python-version: "([\d.]+)"', WORKFLOW)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]


@pytest.mark.parametrize("text", ["a: b: c", "a:b", "a:\n\tb: c", "a: 1\na: 2", "- a: 1\n  - b: 2"])
def test_what_is_no_yaml_is_told_from_it(text: str) -> None:
    with pytest.raises(AssertionError):
        read_yaml(text)


def test_the_test_that_is_shown_asks_what_can_be_asked() -> None:
    conftest, shown = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(conftest, "conftest.py", "exec"), names)
    (plugin,) = names["pytest_plugins"]
    assert plugin == "compress.gate.pytest_plugin"
    exec(compile(shown, "test_model.py", "exec"), names)
    asked: list[CheckRequest] = []

    def compress_check(candidate: str, **request: Any) -> None:
        asked.append(CheckRequest(Path(candidate), **request))

    names["test_the_student_is_as_good_as_the_baseline"](compress_check)
    assert asked[0].latency.allowed == 0.05
    assert asked[0].budget_s == 0.002
