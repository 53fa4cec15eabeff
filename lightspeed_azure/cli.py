"""The command `lightspeed-azure`.

Exit codes: 0 good, 1 the thing asked about is not well, 2 bad input. Each subcommand imports what
it needs when it runs, so that `--help` starts at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from lightspeed_azure.errors import InvalidConfigurationError, LightspeedAzureError

NOT_WELL, BAD_INPUT, INTERRUPTED = 1, 2, 130


class _Group(click.Group):
    """Turns this package's errors into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidConfigurationError as error:
            _end(error, BAD_INPUT)
        except LightspeedAzureError as error:
            _end(error, NOT_WELL)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _end(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"lightspeed-azure: {line}", err=True)
    sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lightspeed-azure", prog_name="lightspeed-azure")
def main() -> None:
    r"""Azure Entra ID tokens, always fresh, on every Llama Stack inference request.

    \b
    Examples:
      lightspeed-azure demo                        see it work, without an Azure account
      lightspeed-azure enrich run.yaml -o out.yaml prepare a stack's configuration
      lightspeed-azure emulate                     Entra ID and Azure OpenAI for your own tests
    """


@main.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=20.0,
    show_default=True,
    help="How long questions are asked, in each mode.",
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=2),
    default=10.0,
    show_default=True,
    help="Seconds that a token lives.",
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
def demo(
    seconds: float, token_lifetime: float, mode: str, *, keep: bool, break_renewals: bool
) -> None:
    """Ask a real Llama Stack questions while tokens expire and are renewed.

    Everything runs on this machine: emulators stand in for Entra ID and Azure OpenAI. Exit code 0
    only if every promise was kept.
    """
    scenario = _with_extra(
        "demo", lambda: __import__("lightspeed_azure.demo.run", fromlist=["run"])
    )
    kept = scenario.run(
        seconds=seconds,
        token_lifetime=token_lifetime,
        mode=mode,
        keep=keep,
        break_renewals=break_renewals,
    )
    sys.exit(0 if kept else NOT_WELL)


@main.command()
@click.option("--token-lifetime", type=click.FloatRange(min=1), default=3600.0, show_default=True)
@click.option("--entra-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--azure-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--imds-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment as JSON.")
def emulate(
    token_lifetime: float, entra_port: int, azure_port: int, imds_port: int, *, as_json: bool
) -> None:
    r"""Serve the emulators of Entra ID, managed identity and Azure OpenAI until Ctrl-C.

    \b
    Prints the environment that points azure-identity and a stack at them:
      lightspeed-azure emulate --token-lifetime 60 > azure.env &
      . ./azure.env
    """
    standalone = _with_extra(
        "demo", lambda: __import__("lightspeed_azure.emulators.standalone", fromlist=["serve"])
    )
    sys.exit(
        standalone.serve(
            token_lifetime=token_lifetime,
            entra_port=entra_port,
            azure_port=azure_port,
            imds_port=imds_port,
            as_json=as_json,
            out=sys.stdout,
        )
    )


@main.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the result goes."
)
def enrich(source: Path, output: Path) -> None:
    """Write a copy of a stack's run.yaml in which `remote::azure` providers start without Azure.

    Sets `model_validation: false` on them; comments and order survive.
    """
    from lightspeed_azure.enrichment import generate_configuration  # noqa: PLC0415

    if source.resolve() == output.resolve():
        raise InvalidConfigurationError(f"{output}: is the input; give another file with -o")
    generate_configuration(source, output, {})


def _with_extra[Module](extra: str, load: Callable[[], Module]) -> Module:
    """Import an optional part.

    Raises:
        InvalidConfigurationError: a package that it needs is not installed.
    """
    try:
        return load()
    except ModuleNotFoundError as error:
        raise InvalidConfigurationError(
            f"this needs {error.name}, which is not installed; "
            f"pip install 'lightspeed-azure[{extra}]'"
        ) from None
