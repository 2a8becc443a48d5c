"""Makes the README's picture: what `make demo` prints at its end.

make demo && python benchmarks/demo_picture.py runs/demo docs/demo.svg
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from compress.commands.distill import print_result
from compress.files import read_json, write_text


def main() -> None:
    run, picture = map(Path, sys.argv[1:])
    console = Console(
        record=True, width=92, file=io.StringIO(), highlight=False, force_terminal=True
    )
    console.print("$ make demo", style="bold")
    console.print("...")
    print_result(read_json(run / "result.json"), run, console)
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_text(picture, console.export_svg(title="compress distill --speedup 4"))


if __name__ == "__main__":
    main()
