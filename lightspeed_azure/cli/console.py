"""How the command ends and what it shows on a terminal: exit codes, error lines, progress."""

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NoReturn, TextIO

import click

from lightspeed_azure.errors import InvalidConfigurationError, LightspeedAzureError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandGroup(click.Group):
    """Turns errors into lines on standard error and an exit code, and Ctrl-C into 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; a failure of standard input or output is one line, and exit code 2."""
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # else a full disk is only noticed at exit
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
            _end(error, FAILED)
        except KeyboardInterrupt:
            click.echo(err=True)
            sys.exit(INTERRUPTED)


def _discard_output() -> None:
    """Discard what could not be written, so that Python does not retry at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: object, code: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"lightspeed-azure: {line}", err=True)
    sys.exit(code)


def import_extra(extra: str, module: str) -> Any:
    """Return a module of this package that needs an extra.

    Raises:
        InvalidConfigurationError: a package that it needs is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidConfigurationError(
            f"this needs {error.name}, which is not installed; "
            f"pip install 'lightspeed-azure[{extra}]'"
        ) from None


DELAY = 1.0
"""Seconds before progress is shown."""


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show a text and the seconds on standard error while the block runs.

    Only on a terminal, and only after `DELAY` seconds.
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(text, done, sys.stderr), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(text: str, done: threading.Event, file: TextIO) -> None:
    if done.wait(DELAY):
        return
    for seconds in itertools.count(1):
        click.echo(f"\r{text} … {seconds} s", nl=False, file=file)
        if done.wait(1.0):
            break
    click.echo(f"\r{' ' * (len(text) + 12)}\r", nl=False, file=file)
