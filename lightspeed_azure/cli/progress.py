"""Something to look at while one waits: only on a terminal, and only after a second."""

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

DELAY = 1.0
"""Seconds that pass before anything is shown."""


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show a text and the seconds on standard error while the block runs."""
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
