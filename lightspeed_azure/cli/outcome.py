"""How the command ends: 0 good, 1 the thing asked about is not well, 2 bad input."""

import sys
from typing import Any, NoReturn

import click

from lightspeed_azure.errors import InvalidConfigurationError, LightspeedAzureError

GOOD, NOT_WELL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandGroup(click.Group):
    """Turns this package's errors into lines and an exit code, and Ctrl-C into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        try:
            return super().invoke(ctx)
        except InvalidConfigurationError as error:
            _end(error, BAD_INPUT)
        except LightspeedAzureError as error:
            _end(error, NOT_WELL)
        except KeyboardInterrupt:
            click.echo(err=True)
            sys.exit(INTERRUPTED)


def _end(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"lightspeed-azure: {line}", err=True)
    sys.exit(code)
