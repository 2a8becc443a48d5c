"""compress help: what a command does and takes."""

from __future__ import annotations

import click

from compress.errors import UnknownName


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of a command, as `compress COMMAND --help` does; without one, of all."""
    above = ctx.parent
    if above is None:  # pragma: no cover - it is a subcommand
        return
    found: click.Command = above.command
    for word in words:
        known = found.list_commands(above) if isinstance(found, click.Group) else []
        below = found.get_command(above, word) if isinstance(found, click.Group) else None
        if below is None:
            raise UnknownName("command", " ".join(words), known or ["none below"])
        found, above = below, click.Context(below, info_name=word, parent=above)
    click.echo(found.get_help(above))
