"""Teacher and budget in, a student that keeps it out."""

__version__ = "0.1.0"
