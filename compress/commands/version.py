"""compress version: which version this is."""

from __future__ import annotations

import click

from compress.version import __version__


@click.command("version")
def command() -> None:
    """Print the version, as `compress --version` does."""
    click.echo(f"compress, version {__version__}")
