"""Daemon threads: one for each flight, and one for each log line that must not hold anything up."""

import threading
from collections.abc import Callable

LOG_THREAD = "lightspeed-azure-log"
"""The name of the threads that write log lines."""


def start_daemon_thread(name: str, run: Callable[[], None]) -> None:
    """Run `run` on a daemon thread of its own.

    There is no pool: a stuck worker would delay later flights and the interpreter's exit.
    """
    threading.Thread(target=run, name=name, daemon=True).start()


def log_in_background(line: Callable[[], None]) -> None:
    """Write a log line on a thread of its own, because a log handler may block.

    For threads that must not wait, such as the timer thread. When no thread can be started, the
    line is written here.
    """
    try:
        start_daemon_thread(LOG_THREAD, line)
    except RuntimeError:
        line()
