"""`lightspeed-azure emulate`."""

import sys

import click

from lightspeed_azure.cli.extras import import_extra
from lightspeed_azure.cli.options import examples, verbose_option


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
    help="Seconds that a token lives.",
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
