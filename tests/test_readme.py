"""What README and CONTRIBUTING say is so: commands, files, layers."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from compress.cli import COMMANDS, group, load_command, read_config
from compress.errors import EXIT_CODES
from compress.pipelines.distill import CHOICE, STUDENT, STUDENT_ONNX, TEACHER_ONNX, TRADEOFF
from compress.profiling.registry import RUNTIMES
from compress.recipes.registry import DEFAULT_RECIPE, RECIPES, make_recipe
from compress.training.options import AUTOCAST, COMPILE, FUSED, MEMORY_FORMATS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = tuple(sorted(ROOT.glob("docs/*.md")))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in DOCS))


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


LINES = [
    line.split("#")[0].strip()
    for text in (README, *(page.read_text(encoding="utf-8") for page in DOCS))
    for block in blocks("sh", text)
    for line in block.splitlines()
    if line.startswith("compress ")
]


def parse(command: click.Command, arguments: list[str]) -> list[str]:
    """What is left of the arguments; an unknown option raises."""
    context = click.Context(command, allow_interspersed_args=not isinstance(command, click.Group))
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    return list(rest)


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_one_that_the_program_takes(line: str) -> None:
    rest = parse(group, shlex.split(line)[1:])
    if rest:
        assert rest[0] in COMMANDS
        command = load_command(rest[0])
        rest = parse(command, rest[1:])
        if isinstance(command, click.Group):
            parse(command.commands[rest[0]], rest[1:])


def test_the_program_in_python_runs(tmp_path: Path) -> None:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    *_, accuracy, latency, verdict = done.stdout.splitlines()
    assert float(accuracy.split("on ")[1].split("%")[0]) > 40
    assert re.fullmatch(r"\d+\.\d\d ms, 95%: \d+\.\d\d to \d+\.\d\d ms", latency)
    assert verdict in ("pass", "inconclusive")
    assert (tmp_path / "runs/python/student.onnx").is_file()


def test_every_subcommand_is_shown() -> None:
    shown = {line.split()[1] for line in LINES if len(line.split()) > 1}
    assert set(COMMANDS) <= shown


def test_the_configuration_is_one_that_can_be_read(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "compress.toml").write_text(block)
    read = read_config(tmp_path / "compress.toml")
    assert len(read["distill"]) == len(tomllib.loads(block)["distill"])


@pytest.mark.parametrize("name", [STUDENT, STUDENT_ONNX, TEACHER_ONNX, TRADEOFF, CHOICE])
def test_the_files_of_a_run_are_told(name: str) -> None:
    assert re.search(rf"^\| [^|]*`{re.escape(name)}`", README, re.MULTILINE)


def test_the_recipes_are_told() -> None:
    section = README.split("| `--recipe` |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    told = {name.split("`")[1]: source.strip() for name, _, source in rows}
    assert list(told) == list(RECIPES)
    assert [name.split("`")[1] for name, _, _ in rows if "default" in name] == [DEFAULT_RECIPE]
    for name, source in told.items():
        assert source in make_recipe(name).paper


def test_every_runtime_is_told_with_what_it_takes() -> None:
    table = (ROOT / "docs/profiling.md").read_text(encoding="utf-8").split("## Runtimes")[1]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    told = {
        name: (takes.strip(), where.strip())
        for names, takes, where in rows
        for name in re.findall(r"`([a-z-]+)`", names)
        if name != "--runtime"
    }
    forms = {"onnx": "ONNX files", "torch": "checkpoints"}
    places = {"cpu": "CPU", "cuda": "NVIDIA GPU"}
    assert told == {
        name: (forms[entry.takes], places[entry.device]) for name, entry in RUNTIMES.items()
    }


def test_how_steps_are_computed_is_told_with_all_values() -> None:
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `--")]
    told = {
        names.split("`")[1]: {*re.findall(r"`([a-z0-9_]+)`", values + " " + default)}
        for names, values, default in rows
    }
    known = {"memory-format": MEMORY_FORMATS, "compile": COMPILE, "fused": FUSED}
    for name, values in {**known, "autocast": AUTOCAST}.items():
        assert told[f"--{name}"] == set(values)
    switches = {"--tf32", "--deterministic"}
    assert told.keys() == {f"--{name}" for name in (*known, "autocast")} | switches


def test_the_exit_codes_are_those_of_the_code() -> None:
    told = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert told == [(str(int(code)), meaning) for code, meaning in EXIT_CODES.items()]


def relative_links(page: str) -> set[str]:
    """What links and pictures of a page point to, in Markdown or HTML, inside the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"\]\(\s*<?([^)>\s]+)", text)
    found += re.findall(r"\b(?:src|href|srcset)=[\"']([^\"']+)", text)
    found += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    return {link.split("#")[0] for link in found if not re.match(r"[a-z]+:|#|//", link)}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    folder = (ROOT / page).parent
    assert [link for link in sorted(relative_links(page)) if not (folder / link).exists()] == []


def test_the_readme_has_a_picture() -> None:
    assert any(link.endswith((".svg", ".png")) for link in relative_links("README.md"))


def test_the_layers_are_those_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    # In brackets: modules that may be there later.
    checked = [re.sub(r" \| \(\w+\)", "", layer) for layer in contract["layers"]]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Who may import whom")[1].split("\n## ")[0]
    drawn = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    assert drawn == [layer for layer in checked if layer != "__main__"]


def cells(text: str) -> list[list[str]]:
    """The cells of every line of the tables in a page."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def recorded_rows(experiment: str) -> list[list[str]]:
    """What the methods reached, as the experiment's own table has it."""
    path = ROOT / "benchmarks" / "results" / experiment / "table.md"
    _, teacher, *rows = cells(path.read_text(encoding="utf-8"))
    assert teacher[1] == "teacher"
    return rows


def told_figures(start: str, end: str) -> dict[str, str]:
    """A table of docs/methods.md: method -> the last of three cells, between two headings."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    part = page[page.index(start) : page.index(end)]
    return {name: figure for name, _, figure in (row for row in cells(part) if len(row) == 3)}


@pytest.mark.parametrize(
    ("start", "end", "experiment", "least"),
    [
        ("# What the methods reached", "## The default", "cifar10_resnet56", len(RECIPES)),
        ("### With exact teacher outputs", "### With 100 classes", "cifar10_exact_outputs", 6),
    ],
)
def test_what_the_methods_reached_is_what_was_recorded(
    start: str, end: str, experiment: str, least: int
) -> None:
    told = told_figures(start, end)
    rows = recorded_rows(experiment)
    for _, method, last_epoch, *_ in rows:
        assert told[method] == last_epoch
    assert len(rows) >= least
