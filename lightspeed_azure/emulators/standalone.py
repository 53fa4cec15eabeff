"""The emulators on their own, for other processes: `lightspeed-azure emulate`."""

import json
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from lightspeed_azure.emulators.suite import Emulators
from lightspeed_azure.errors import InvalidConfigurationError

_OPTIONS = ("--entra-port", "--azure-port", "--imds-port")


def serve(
    *,
    token_lifetime: float,
    entra_port: int,
    azure_port: int,
    imds_port: int,
    as_json: bool,
    out: TextIO,
) -> None:
    """Serve until SIGINT or SIGTERM; write to `out` first what to set in the environment.

    `out` gets the throw-away client secret, which is its purpose; nothing else does. Call it on the
    main thread: only that one may handle signals.

    Args:
        token_lifetime: seconds.
        entra_port: 0 takes a free port.
        azure_port: the same.
        imds_port: the same.
        as_json: one JSON object on one line instead of ``export`` lines for a shell.
        out: where to write.

    Raises:
        InvalidConfigurationError: a port is taken.
    """
    emulators = Emulators(
        token_lifetime=token_lifetime,
        entra_port=entra_port,
        azure_port=azure_port,
        imds_port=imds_port,
    )
    with _signals() as ended:
        try:
            emulators.start()
        except OSError as error:
            ports = (entra_port, azure_port, imds_port)
            raise _taken(error, dict(zip(_OPTIONS, ports, strict=True))) from None
        with emulators:
            environment = emulators.environment()
            if as_json:
                out.write(json.dumps(environment) + "\n")
            else:
                out.writelines(
                    f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()
                )
            out.flush()
            ended.wait()


def _taken(error: OSError, asked: Mapping[str, int]) -> InvalidConfigurationError:
    """Return the error for a port that cannot be listened at.

    Args:
        error: of asyncio, whose text names the address.
        asked: option → port.
    """
    reason = os.strerror(error.errno) if error.errno else "no such address"
    taken = {name: port for name, port in asked.items() if port and f", {port})" in str(error)}
    names = " and ".join(taken or asked)
    port = next(iter(taken.values()), "")
    return InvalidConfigurationError(
        f"{names}: cannot listen at 127.0.0.1:{port} ({reason}); give another port"
    )


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, and put the old handlers back at the end."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        ended.set()

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, end) for kind in kinds]
    try:
        yield ended
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
