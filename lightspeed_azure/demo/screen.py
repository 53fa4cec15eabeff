"""How the demo looks: a live table in a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lightspeed_azure.demo.verdict import Promise
from lightspeed_azure.demo.watch import Watch

BARS = " ▁▂▃▄▅▆▇█"
LINE_EVERY = 5.0
"""Seconds between two plain lines."""

ZONE_STYLES = {"fresh": "green", "stale": "yellow", "expired": "red", "empty": "dim"}


class Screen:
    """Shows the demo.

    Args:
        console: where; a console that is no terminal gets plain lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._line_at = 0.0

    def say(self, text: str) -> None:
        """Tell one step of the story."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[Self]:
        """Redraw in place while a mode runs."""
        if self._console.is_terminal:
            with Live(console=self._console, transient=True, auto_refresh=False) as self._live:
                yield self
            self._live = None
        else:
            self._line_at = time.monotonic() + LINE_EVERY
            yield self

    def show(self, watch: Watch) -> None:
        """Show a mode as it is now."""
        if self._live is not None:
            self._live.update(_picture(watch), refresh=True)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY
            self.say(_line(watch))

    def summary(self, promises: Iterable[tuple[str, tuple[Promise, ...]]]) -> None:
        """Show every promise of every mode."""
        table = Table(title="What was promised, and what was seen", title_justify="left")
        for column in ("mode", "promise", "seen", ""):
            table.add_column(column, overflow="fold")
        for mode, kept in promises:
            for promise in kept:
                mark = Text("✓", "green") if promise.kept else Text("✗", "bold red")
                table.add_row(mode, promise.text, promise.seen, mark)
            table.add_section()
        self._console.print(table)


def _picture(watch: Watch) -> Panel:
    token = watch.token
    zone = str(token.get("zone", "empty"))
    expires_on = token.get("expires_on")
    left = max(0.0, expires_on - time.time()) if expires_on else 0.0
    lifetime = watch.emulators.entra.token_lifetime
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        "token",
        Text(zone, ZONE_STYLES.get(zone, "")),
        ProgressBar(total=lifetime, completed=left, width=30),
        f"{left:4.1f} s of {lifetime:.0f} s left",
    )
    grid.add_row(
        "renewals", str(token.get("renewals", 0)), "", f"{watch.issued} issued by Entra ID"
    )
    grid.add_row(
        "questions",
        f"{watch.tally.plain} plain, {watch.tally.streamed} streamed",
        _bars(watch),
        f"{watch.tally.failures.total()} failed",
    )
    grid.add_row(
        "at Azure",
        f"{watch.accepted} accepted",
        f"{watch.tokens_seen} different token(s)",
        f"{watch.rejected} rejected",
    )
    title = f"{watch.mode} mode · {watch.elapsed:.0f} of {watch.seconds:.0f} s"
    return Panel(Group(grid), title=title, title_align="left", width=100)


def _bars(watch: Watch) -> str:
    top = max(watch.history, default=0) or 1
    return "".join(BARS[round(count / top * (len(BARS) - 1))] for count in watch.history)[-30:]


def _line(watch: Watch) -> str:
    return (
        f"  {watch.elapsed:3.0f} s: {watch.tally.asked} questions, "
        f"{watch.tally.failures.total()} failed; token {watch.token.get('zone', 'empty')}, "
        f"{watch.token.get('renewals', 0)} renewals; Azure saw {watch.tokens_seen} tokens, "
        f"rejected {watch.rejected}"
    )
