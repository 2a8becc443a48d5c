"""Makes the README's picture: what `make demo` prints at its end.

make demo && python benchmarks/demo_picture.py runs/demo docs/demo.svg
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from compress.files import read_json, write_text
from compress.pipelines.distill import DistillResult
from compress.pipelines.distill.report import document_of
from compress.report import terminal


def main() -> None:
    run, picture = map(Path, sys.argv[1:])
    console = Console(
        record=True, width=92, file=io.StringIO(), highlight=False, force_terminal=True
    )
    console.print("$ make demo", style="bold")
    console.print("...")
    result = DistillResult.from_dict(read_json(run / "result.json"))
    terminal.print_on(console, document_of(result, run.iterdir()))
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_text(picture, console.export_svg(title="compress distill --speedup 4"))


if __name__ == "__main__":
    main()
