"""`lightspeed-azure completion`."""

import click
from click.shell_completion import get_completion_class

from lightspeed_azure.cli.options import examples

PROGRAM, VARIABLE = "lightspeed-azure", "_LIGHTSPEED_AZURE_COMPLETE"


@click.command(
    epilog=examples(
        'eval "$(lightspeed-azure completion bash)"',
        "lightspeed-azure completion fish | source",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete this command."""
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
