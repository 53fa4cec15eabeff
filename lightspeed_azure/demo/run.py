"""Run the demo from the command line: signals in, exit code out, no process left behind."""

import asyncio
import os
import signal
from pathlib import Path

from rich.console import Console

from lightspeed_azure.demo.scenario import MODES, Options, tell
from lightspeed_azure.demo.screen import Screen


def run(
    *,
    seconds: float,
    token_lifetime: float,
    mode: str,
    keep: bool,
    break_renewals: bool,
) -> bool:
    """Run the demo; True when every promise was kept.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP ended it, after all its processes.
    """
    picture = os.environ.get("LIGHTSPEED_AZURE_DEMO_SVG")
    console = Console(highlight=False, record=bool(picture))
    options = Options(
        seconds=seconds,
        token_lifetime=token_lifetime,
        modes=MODES if mode == "both" else (mode,),
        keep=keep,
        break_renewals=break_renewals,
    )
    kept = asyncio.run(_interruptible(options, Screen(console)))
    console.print("[bold green]The demo went well.[/]" if kept else "[bold red]NOT well: see ✗.[/]")
    if picture:
        console.save_svg(str(Path(picture)), title="lightspeed-azure demo")
    return kept


async def _interruptible(options: Options, screen: Screen) -> bool:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await tell(options, screen)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
