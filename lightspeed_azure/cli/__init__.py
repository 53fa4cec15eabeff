"""The command `lightspeed-azure`.

Each subcommand imports what it needs when it runs, so that `--help` starts at once.
"""

import os

import click
from click.shell_completion import get_completion_class

from lightspeed_azure.cli.check import check
from lightspeed_azure.cli.console import CommandGroup
from lightspeed_azure.cli.demo import demo, emulate
from lightspeed_azure.cli.enrich import enrich
from lightspeed_azure.cli.options import examples, verbose_option
from lightspeed_azure.cli.proxy import proxy
from lightspeed_azure.cli.token import token

__all__ = ["main"]


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "lightspeed-azure demo",
        "lightspeed-azure enrich run.yaml -o enriched.yaml",
        "lightspeed-azure check --inference azure/gpt-4o-mini",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="lightspeed-azure", prog_name="lightspeed-azure")
@verbose_option()
@click.pass_context
def main(ctx: click.Context) -> None:
    """Azure Entra ID tokens, always fresh, on every Llama Stack inference request.

    Exit codes: 0 ok, 1 failed, 2 bad input.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


@click.command(
    epilog=examples(
        'eval "$(lightspeed-azure completion bash)"',
        "lightspeed-azure completion fish | source",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete this command."""
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(
            kind(
                ctx.find_root().command, {}, "lightspeed-azure", "_LIGHTSPEED_AZURE_COMPLETE"
            ).source()
        )


for _command in (check, completion, demo, emulate, enrich, proxy, token):
    main.add_command(_command)
