"""How the command ends: 0 good, 1 the thing asked about is not well, 2 bad input."""

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from lightspeed_azure.errors import InvalidConfigurationError, LightspeedAzureError

GOOD, NOT_WELL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandGroup(click.Group):
    """Turns errors into lines and an exit code, and Ctrl-C into 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; input or output that fails ends it with one line, as bad input does."""
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # or a full disk is only noticed when the process ends
        except OSError as error:
            _discard_output()
            # Files have errors of their own, so this is about standard input or output.
            _end(f"cannot read or write: {error.strerror or type(error).__name__}", BAD_INPUT)

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


def _discard_output() -> None:
    """Drop what could not be written, so that Python does not try again when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: object, code: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"lightspeed-azure: {line}", err=True)
    sys.exit(code)
