"""``python -m compress`` is the command ``compress``."""

import sys

from compress.cli import main

sys.exit(main())
