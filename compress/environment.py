"""What the environment says, and what is set in it before any library reads it. Stdlib only.

Importing ``compress`` calls ``keep_to_this_machine``. Child processes inherit what it sets.
"""

from __future__ import annotations

import os
from pathlib import Path

SENDS_NOTHING = {
    # ONNX Runtime 1.31 looks up a host of its maker and queues a device id, the interpreter's path
    # and error texts in a database under ~/.cache. Its disable_telemetry_events() comes too late:
    # the variable has to be set before the import.
    "ORT_DISABLE_TELEMETRY": "1",
    # huggingface_hub, which timm imports.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # What further tools agree on (consoledonottrack.com).
    "DO_NOT_TRACK": "1",
}
"""Variables by which libraries are told to report nothing to their makers.

OpenVINO needs none: only its model converter reports, and that is never called here.
"""


def keep_to_this_machine() -> None:
    """Tells libraries to report nothing, unless the user's environment says otherwise."""
    for name, value in SENDS_NOTHING.items():
        os.environ.setdefault(name, value)


def cache_folder() -> Path:
    """Where all that is kept between runs lies; it may not exist yet.

    That is measurements, outcomes of runs, what teachers said, engines, downloaded data sets and
    decoded images.

    $COMPRESS_CACHE, or $XDG_CACHE_HOME/compress, or ~/.cache/compress.
    """
    own = os.environ.get("COMPRESS_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "compress"
