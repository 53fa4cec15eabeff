"""`lightspeed-azure demo`."""

import sys

import click

from lightspeed_azure.cli.extras import import_extra
from lightspeed_azure.cli.options import examples, verbose_option
from lightspeed_azure.cli.outcome import GOOD, NOT_WELL


@click.command(
    epilog=examples(
        "lightspeed-azure demo",
        "lightspeed-azure demo --mode library --seconds 10 --keep",
    )
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=4),
    default=20.0,
    show_default=True,
    help="How long questions are asked, in each mode.",
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=2),
    help="Seconds that a token lives; 10, or half of --seconds where that is less.",
)
@click.option(
    "--mode",
    type=click.Choice(["library", "service", "both"]),
    default="both",
    show_default=True,
    help="Where the Llama Stack runs: inside the service, or as a server of its own.",
)
@click.option("--keep", is_flag=True, help="Leave it running, and print what to try.")
@click.option(
    "--break-renewals",
    is_flag=True,
    help="Let Entra ID refuse every renewal, to see the demo fail.",
)
@verbose_option()
def demo(
    seconds: float, token_lifetime: float | None, mode: str, *, keep: bool, break_renewals: bool
) -> None:
    """Show tokens being renewed under a real Llama Stack.

    Asks it questions while tokens expire. Everything runs on this machine: emulators stand in for Entra ID and Azure OpenAI. Exit code 0
    only if every promise was kept.
    """
    kept = import_extra("demo", "lightspeed_azure.demo.run").run(
        seconds=seconds,
        token_lifetime=token_lifetime or min(10.0, seconds / 2),
        mode=mode,
        keep=keep,
        break_renewals=break_renewals,
    )
    sys.exit(GOOD if kept else NOT_WELL)
