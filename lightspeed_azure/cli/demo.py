"""`lightspeed-azure demo` and `lightspeed-azure emulate`, which need the extra `demo`."""

import sys

import click

from lightspeed_azure.cli.console import FAILED, OK, import_extra
from lightspeed_azure.cli.options import examples, verbose_option


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
    help="How long to send questions, in each mode.",
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=2),
    help="Lifetime of a token in seconds.  [default: 10, at most half of --seconds]",
)
@click.option(
    "--mode",
    type=click.Choice(["library", "service", "both"]),
    default="both",
    show_default=True,
    help="Where the Llama Stack runs: inside the service, or as its own server.",
)
@click.option("--keep", is_flag=True, help="Keep it running, and print commands to try.")
@click.option(
    "--break-renewals",
    is_flag=True,
    help="Make Entra ID refuse every renewal, so that the demo fails.",
)
@verbose_option()
def demo(
    seconds: float, token_lifetime: float | None, mode: str, *, keep: bool, break_renewals: bool
) -> None:
    """Show tokens being renewed under a real Llama Stack.

    Sends it questions while tokens expire. Everything runs on this machine: emulators stand in for
    Entra ID and Azure OpenAI. Exit code 0 only if every promise was kept.
    """
    kept = import_extra("demo", "lightspeed_azure.demo.run").run(
        seconds=seconds,
        token_lifetime=token_lifetime or min(10.0, seconds / 2),
        mode=mode,
        keep=keep,
        break_renewals=break_renewals,
    )
    sys.exit(OK if kept else FAILED)


@click.command(
    epilog=examples(
        "lightspeed-azure emulate --token-lifetime 60 > azure.env &",
        ". ./azure.env",
    )
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Lifetime of a token in seconds.",
)
@click.option("--entra-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--azure-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--imds-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment as JSON.")
@verbose_option()
def emulate(
    token_lifetime: float, entra_port: int, azure_port: int, imds_port: int, *, as_json: bool
) -> None:
    """Emulate Entra ID and Azure OpenAI until Ctrl-C.

    Managed identity is emulated too. Prints the environment that points azure-identity and a stack
    at the emulators.
    """
    import_extra("demo", "lightspeed_azure.emulators.standalone").serve(
        token_lifetime=token_lifetime,
        entra_port=entra_port,
        azure_port=azure_port,
        imds_port=imds_port,
        as_json=as_json,
        out=sys.stdout,
    )
