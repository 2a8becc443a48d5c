"""Teacher and budget in, a student that keeps it out."""

from compress.environment import keep_to_this_machine

__version__ = "0.1.0"

keep_to_this_machine()
