"""Runs a function in a forked process."""

import os
import pickle
import signal
import warnings
from collections.abc import Callable

_PATIENCE = 60
"""Seconds after which a child counts as stuck."""


def in_fork[T](child: Callable[[], T]) -> T:
    """Return what `child` returns in a forked process."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python warns of exactly what is tested here: forking a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(_PATIENCE)
        try:
            os.write(writer, pickle.dumps(child()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(pid, 0)
    assert data, "the child broke"
    result: T = pickle.loads(data)  # noqa: S301  # written by ourselves
    return result
