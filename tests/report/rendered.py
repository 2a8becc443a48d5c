"""What documents look like: texts that are kept in files and compared.

RENDER=1 python -m pytest tests/...    writes them anew; look at the difference before you commit it
"""

from __future__ import annotations

import os
from pathlib import Path

from compress.report import markdown, terminal
from compress.report.document import Document

FOLDER = Path(__file__).parent / "rendered"


def assert_rendered(document: Document, name: str) -> None:
    """Compares a document on two terminals and in Markdown with what is kept under that name."""
    shown = {
        "a terminal of 80 columns": terminal.text_of(document, 80),
        "a terminal of 120 columns": terminal.text_of(document, 120),
        "Markdown": markdown.render(document),
    }
    text = "\n".join(f"===== {where}\n\n{found}" for where, found in shown.items())
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RENDER"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
