"""What holds for every file of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import compress

ROOT = Path(compress.__file__).parent
MOST_LINES, MOST_LINES_OF_A_CLASS = 600, 300


def test_files_and_classes_are_short_enough_to_be_read() -> None:
    long = []
    for path in ROOT.rglob("*.py"):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if len(text.splitlines()) > MOST_LINES:
            long.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_CLASS:
                    long.append(f"{name}: {node.name}")
    assert not long
