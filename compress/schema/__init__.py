"""What is read from a text is what is expected, or all that is wrong with it is told at once.

A JSON, TOML or CSV text becomes plain values (``parse_json``, ``parse_toml``, ``parse_csv``), and
plain values become a dataclass by its annotations (``decode``):

    @dataclass(frozen=True)
    class Settings:
        threads: Threads                        # Annotated[int, Between(1, 4096)]
        shape: tuple[Side, Side] | None = None

    decode(Settings, parse_json(text, "s.json"), "s.json is no settings file")

    s.json is no settings file: threads is 1000000, it must be from 1 to 4096; shape[1] is 'x', it
    must be a whole number.

Whatever the text holds, it ends in a value or in one error of ``compress.errors``: sizes, nesting
and numbers have limits, and nothing of the size that a number claims is made.

Standard library only.
"""

from compress.schema.decoding import (
    Decoder,
    decode,
    decode_json,
    decode_or_none,
    faults_of,
    of_text,
)
from compress.schema.encoding import encode
from compress.schema.texts import Row, parse_csv, parse_json, parse_toml

__all__ = [
    "Decoder",
    "Row",
    "decode",
    "decode_json",
    "decode_or_none",
    "encode",
    "faults_of",
    "of_text",
    "parse_csv",
    "parse_json",
    "parse_toml",
]
