from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzz import processes
from tests.fuzz.case import Bench, Kind, Plan, plan
from tests.fuzz.judge import Outcome
from tests.fuzz.runner import Fault, Settings, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

TOYS = "tests.fuzz.toys:main"


class NoStock:
    """For toys, which read nothing."""

    def path(self, name: str) -> Path:
        raise KeyError(name)


def toy(name: str, index: int = 0, *, refused: bool = False) -> Plan:
    return Plan(0, index, "toy", name, lambda bench: [name], refused)


def ran(
    folder: Path, *plans: Plan, jobs: int = 1, limit_s: float = 30.0, spawn: bool = False
) -> list[Outcome]:
    # A case that forks has this process's memory twice, for as long as a slow machine takes.
    room = 2 * processes.memory_bytes([os.getpid()]) + (400 << 20)
    settings = Settings(
        folder, jobs=jobs, limit_s=limit_s, memory_bytes=room, spawn=spawn, command=TOYS
    )
    return sorted(run(plans, NoStock(), settings), key=lambda each: each.index)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("bug", "exit code 70"),
        ("raise", "traceback"),
        ("crash", "signal 11"),
        ("allocate", "memory: more than"),
        ("execute", "executed: the file's own code ran"),
        ("call a shell", "executed: os.system"),
        ("write outside", "wrote outside: "),
        ("write beside", "wrote outside: "),
        ("write through a link", "wrote outside: "),
        ("leave a temporary file", "left behind: TMPDIR/"),
        ("leave an unfinished file", "left behind: .out.onnx"),
        ("leave a lock", "left behind: the folder run with .lock"),
        ("leave a child", "child left: "),
        ("ask the network", "network: "),
    ],
)
def test_what_no_command_may_do_is_found(name: str, fault: str, tmp_path: Path) -> None:
    (outcome,) = ran(tmp_path / "work", toy(name))
    assert any(each.startswith(fault) for each in outcome.faults), outcome
    assert not any("sleep" in processes.name_of(pid) for pid in processes.children(os.getpid()))


def test_a_hang_is_ended_and_says_where_it_was(tmp_path: Path) -> None:
    (outcome,) = ran(tmp_path, toy("hang"), limit_s=0.5)
    assert outcome.faults[0].startswith("hang: ")
    assert any("toys.py" in line and "_hang" in line for line in outcome.stderr)


@pytest.mark.parametrize("spawn", [False, True])
def test_what_a_command_may_do_is_no_fault(spawn: bool, tmp_path: Path) -> None:
    planned = [toy("refuse", 0), toy("clean up", 1), toy("replace a link", 2)]
    outcomes = ran(tmp_path, *planned, spawn=spawn)
    assert [each.faults for each in outcomes] == [(), (), ()]
    assert [each.ending.code for each in outcomes] == [2, 0, 2]
    assert outcomes[0].stderr == ("error: no.",)


def test_what_has_to_be_refused_may_not_end_with_0(tmp_path: Path) -> None:
    (outcome,) = ran(tmp_path, toy("clean up", refused=True))
    assert outcome.faults[0].startswith("accepted: ")


def test_several_at_a_time_are_told_apart(tmp_path: Path) -> None:
    names = ["clean up", "leave a child", "refuse", "write beside", "clean up", "refuse"]
    outcomes = ran(tmp_path, *(toy(name, index) for index, name in enumerate(names)), jobs=3)
    faults = ["".join(fault.partition(":")[0] for fault in each.faults) for each in outcomes]
    assert faults == ["", "child left", "", "wrote outside", "", ""]


def test_nothing_of_a_case_stays_unless_it_is_kept(tmp_path: Path) -> None:
    ran(tmp_path, toy("refuse"), toy("hang", 1), limit_s=0.5)
    assert list(tmp_path.iterdir()) == []
    settings = Settings(tmp_path, keep=True, command=TOYS)
    list(run([toy("refuse")], NoStock(), settings))
    assert (tmp_path / "case-0-0/files/out.txt").exists()


def test_a_case_that_cannot_be_made_is_the_fuzzers_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(bench: Bench) -> list[str]:
        raise ValueError("no such file")

    with pytest.raises(Fault, match="toy, broken, index 3"):
        list(run([Plan(0, 3, "toy", "broken", make, False)], NoStock(), Settings(tmp_path)))
    assert "no such file" in capfd.readouterr().err


def test_all_hostile_files_come_before_any_comes_again() -> None:
    kinds = [Kind("a"), Kind("b")]
    for kind in kinds:
        kind.damaged(lambda bench: [])
        for number in range(3):
            kind.add(f"{number}", lambda bench: [])
    planned = [plan(kinds, 5, index) for index in range(20)]
    by_hand = [(each.kind, each.name) for each in planned if each.name != "damaged"]
    assert len(by_hand) == 12
    assert len(set(by_hand[:6])) == 6
    assert by_hand[:6] == by_hand[6:]
    assert [each.kind for each in planned if each.name == "damaged"] == ["a", "b"] * 4
    assert [(p.kind, p.name) for p in planned] == [
        (p.kind, p.name) for p in (plan(kinds, 5, index) for index in range(20))
    ]
