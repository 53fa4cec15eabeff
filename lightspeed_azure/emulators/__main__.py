"""`python -m lightspeed_azure.emulators`: serve the emulators until Ctrl-C."""

import sys

import click

from lightspeed_azure.emulators.standalone import serve
from lightspeed_azure.errors import InvalidConfigurationError


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65533),
    default=0,
    help="Entra ID's port; Azure OpenAI and IMDS take the next two. 0: free ports.",
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds that a token lives.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, not `export` lines.")
def main(port: int, token_lifetime: float, as_json: bool) -> None:
    """Serve Entra ID, Azure OpenAI and IMDS, and print the environment that leads to them."""
    try:
        serve(
            token_lifetime=token_lifetime,
            entra_port=port,
            azure_port=port and port + 1,
            imds_port=port and port + 2,
            as_json=as_json,
            out=sys.stdout,
            options=("--port", "--port + 1", "--port + 2"),
        )
    except InvalidConfigurationError as error:
        click.echo(error, err=True)
        sys.exit(2)


main()
