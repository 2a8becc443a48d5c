"""A busy neighbour: another process that keeps a core for as long as something is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# It ends with this program, however that ends.
BUSY = [
    sys.executable,
    "-c",
    "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass",
]


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """Keeps a core busy meanwhile, or not."""
    process = subprocess.Popen(BUSY) if busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
