"""What this package sets in the environment before any library reads it. Standard library only.

Importing ``compress`` calls ``keep_to_this_machine``. Child processes inherit what it sets.
"""

from __future__ import annotations

import os

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
