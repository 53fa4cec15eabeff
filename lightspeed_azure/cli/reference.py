"""Generates docs/cli.md from the command itself: `python -m lightspeed_azure.cli.reference`."""

import sys
from collections.abc import Iterator
from typing import Any

import click

PROGRAM = "lightspeed-azure"
WIDTH = 92

_HEAD = """\
# The command

`lightspeed-azure`, also `python -m lightspeed_azure`. Exit codes: 0 ok, 1 failed, 2 bad input,
130 after Ctrl-C. Messages go to standard error, results to standard output. Colors and progress show
on a terminal only; `NO_COLOR` turns colors off.

This page is generated: `python -m lightspeed_azure.cli.reference > docs/cli.md`.
"""


def reference() -> str:
    """Return the page."""
    return _HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    from lightspeed_azure.cli import main  # noqa: PLC0415 - it would import this file

    settings: dict[str, Any] = {**main.context_settings, "terminal_width": WIDTH}
    parent = click.Context(main, info_name=PROGRAM, **settings)
    yield _section(PROGRAM, main, parent)
    for name, command in sorted(main.commands.items()):
        ctx = click.Context(command, parent=parent, info_name=name, **settings)
        yield _section(f"{PROGRAM} {name}", command, ctx)


def _section(title: str, command: click.Command, ctx: click.Context) -> str:
    lines = (line.rstrip() for line in command.get_help(ctx).splitlines())
    return f"\n## {title}\n\n```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
