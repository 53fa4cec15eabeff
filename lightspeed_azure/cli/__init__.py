"""The command `lightspeed-azure`, one file a subcommand.

Exit codes: 0 good, 1 the thing asked about is not well, 2 bad input. Each subcommand imports what
it needs when it runs, so that `--help` starts at once.
"""

import os

import click

from lightspeed_azure.cli.check import check
from lightspeed_azure.cli.completion import completion
from lightspeed_azure.cli.demo import demo
from lightspeed_azure.cli.emulate import emulate
from lightspeed_azure.cli.enrich import enrich
from lightspeed_azure.cli.options import examples, verbose_option
from lightspeed_azure.cli.outcome import CommandGroup
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

    Exit codes: 0 good, 1 the thing asked about is not well, 2 bad input.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


for _command in (check, completion, demo, emulate, enrich, proxy, token):
    main.add_command(_command)
