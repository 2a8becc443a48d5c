"""benchmarks/start_up.py: what is news on a terminal, and how long there was none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.start_up import NOTHING, heard, markdown, news_of, silences

PROGRAM = (
    "import sys, time\n"
    "print('terminal' if sys.stderr.isatty() else 'pipe', file=sys.stderr, flush=True)\n"
    "time.sleep(0.2)\n"
    "print('result')\n"
    "print('done', file=sys.stderr, flush=True)\n"
)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_command_says_comes_with_its_time(terminal: bool) -> None:
    *texts, (end_s, nothing) = heard([sys.executable, "-c", PROGRAM], terminal=terminal)
    (first_s, first), (then_s, then) = news_of(texts)
    assert first == ("terminal" if terminal else "pipe")
    assert then == "done"
    assert then_s - first_s >= 0.1
    assert 0 < first_s < then_s <= end_s
    assert nothing == ""


def test_a_command_that_fails_says_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(subprocess.CalledProcessError) as raised:
        list(heard(command, terminal=False))
    assert "no such thing" in raised.value.stderr


def test_a_display_that_is_drawn_again_is_no_news() -> None:
    bar = "\x1b[2K\r\x1b[36mepoch 1/12\x1b[0m ━━╸━━  10 s left\x1b[?25l\r\n"
    texts = [(1.0, "Training\r\n"), (2.0, bar), (3.0, bar), (4.0, "\x1b[1A━━━━\r\n")]
    # A message is drawn above the bar, which is then drawn again.
    above, later = (5.0, f"Timing\r\n{bar}"), (6.0, bar.replace("10", "9"))
    assert list(news_of([*texts, above, later])) == [
        (1.0, "Training"),
        (2.0, "epoch 1/12  10 s left"),
        (5.0, "Timing"),
        (6.0, "epoch 1/12  9 s left"),
    ]


def test_silences_are_those_that_a_user_wonders_about() -> None:
    news = [(3.0, "Reading"), (4.0, "Training"), (9.0, "epoch 1")]
    found = silences(news, 10.0)
    assert [(each["seconds"], each["after"], each["before"]) for each in found] == [
        (5.0, "Training", "epoch 1"),
        (3.0, NOTHING, "Reading"),
    ]
    assert silences([], 1.0) == []


def test_the_page_has_what_there_is() -> None:
    run = {
        "seconds": 60.0,
        "first_line_s": 3.0,
        "first_step_s": 20.0,
        "silences": silences([(3.0, "a|b")], 10.0),
    }
    lines = [
        {"name": "import compress", "seconds": 0.02},
        {"name": "import compress", "seconds": 0.04},
        {"name": "terminal", "command": "distill", **run},
        {"name": "pipe", "command": "distill", **run, "first_step_s": None, "silences": []},
    ]
    page = "\n".join(markdown(lines))
    assert "| `import compress` | 0.03 | 0.02, 0.04 | 2 |" in page
    assert "| distill, terminal: first step | 20.00 | 20.00, 20.00 | 1 |" in page
    assert "pipe: first step" not in page
    assert "| 1 | 7.0 | 3.0 | a\\|b | (the end) |" in page
    assert page.endswith("None.\n")
    assert markdown([])
