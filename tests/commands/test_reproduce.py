"""compress reproduce: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.cli import main
from compress.commands.options import parse_by_task, parse_names, parse_seeds
from compress.commands.reproduce import command, default_folder
from compress.errors import UsageError
from compress.pipelines.reproduce.experiment import known_experiments
from tests.pipelines.reproduce.tiny import make_data, make_experiment


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return make_experiment(tmp_path, make_data(tmp_path))


def test_it_says_the_cost_then_prints_the_table(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", str(file), "--seeds", "0", "--methods", "student", "--device", "cpu"]
    assert main([*words, "--plan"]) == 0
    planned = capsys.readouterr()
    row = next(line for line in planned.out.splitlines() if "stripes, wrn-10-0.5" in line)
    assert row.split()[2:5] == ["1", "2", "180"]
    assert not Path("runs").exists()
    assert main([*words, "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["planned"] == 1
    assert main(words) == 0
    done = capsys.readouterr()
    assert done.out.startswith("Stripes\n")
    assert row in done.err
    (cell,) = [line for line in done.out.splitlines() if line.startswith("wrn-10-0.5  student")]
    table = Path("runs/reproduce/stripes/table.md").read_text()
    assert table.startswith("# Stripes\n")
    assert all(f"| {figure} |" in table for figure in cell.split())
    assert main([*words, "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out)["finished"] == 1
    assert "All 1 trainings are finished." in again.err


def test_time_that_is_over_is_exit_code_3(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", str(file), "--device", "cpu", "--max-minutes", "0.00001"]
    assert main(words) == 3
    assert "0 of 6 trainings are finished" in capsys.readouterr().err
    assert "Not finished" in Path("runs/reproduce/stripes/table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["logit-gan/tabel2"], "Did you mean 'logit-gan/table2'?"),
        (["mine.toml"], "There is no file mine.toml"),
        (["logit-gan/table2", "--seeds", "0,a"], "--seeds is '0,a'; it takes numbers"),
        (["logit-gan/table2", "--scale", "0"], "--scale is 0"),
        (["logit-gan/table2", "--data", "a.npz", "--data", "b.npz"], "--data gives two values"),
        (["logit-gan/table2", "--data", "cifar10=none.npz", "--tasks", "cifar10"], "none.npz"),
        (["logit-gan/table2", "--max-minutes", "0"], "max-minutes"),
    ],
)
def test_wrong_use_is_exit_code_2(
    file: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments, "--device", "cpu"]) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_help_names_all_experiments() -> None:
    help_text = command.help or ""
    for name in known_experiments():
        paper, table = name.split("/")
        assert paper in help_text
        assert table in help_text


def test_lists_and_pairs_of_a_task_and_a_file() -> None:
    assert parse_names("KD T=5, student", "--methods") == ("KD T=5", "student")
    assert parse_seeds("0, 2", "--seeds") == (0, 2)
    data = {"cifar10": "a.npz", "cifar100": "b=c.npz"}
    assert parse_by_task(("cifar10=a.npz", "cifar100=b=c.npz"), "--data") == data
    assert parse_by_task(("/of/x=y/t.pt",), "--teacher") == {"": "/of/x=y/t.pt"}
    with pytest.raises(UsageError, match="--data gives cifar10 twice"):
        parse_by_task(("cifar10=a", "cifar10=b"), "--data")


def test_folders_by_name() -> None:
    assert default_folder("logit-gan/table2") == Path("runs/reproduce/logit-gan/table2")
    assert default_folder("some/where/mine.toml") == Path("runs/reproduce/mine")
