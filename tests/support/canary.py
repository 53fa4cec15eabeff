"""The canary: collects what people and machines can read, and looks for secrets in it."""

import io
import logging
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def chain(error: BaseException) -> list[BaseException]:
    """Return an error, its causes and contexts, and the members of groups."""
    found: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is None or any(each is one for one in found):
            continue
        found.append(each)
        rest += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return found


class Canary:
    """Collects texts, and says whether a secret is in one of them."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def watch(self, **secrets: str) -> None:
        """Add secrets to look for."""
        self.secrets.update(secrets)

    def read(self, **things: Any) -> None:
        """Add what someone could read: the repr and the text of each thing."""
        for name, thing in things.items():
            self.texts[name] = f"{thing!r} {thing!s}"

    def read_error(self, name: str, error: BaseException) -> None:
        """Add an error, and all that it follows from, as logs and debuggers show them.

        The locals of every frame count, whichever package it belongs to: but those of the tests,
        which know what is secret.
        """
        for number, each in enumerate(chain(error)):
            self._read_one(f"{name} {number}" if number else name, each)

    def _read_one(self, name: str, error: BaseException) -> None:
        self.read(**{name: error})
        self.texts[f"{name} args"] = repr((error.args, vars(error)))
        for part in ("request", "response"):
            with suppress(AttributeError, RuntimeError):  # a response may know no request
                sent = getattr(error, part)
                self.texts[f"{name} {part}"] = repr(getattr(sent, "request", sent).headers.raw)
        with suppress(TypeError, AttributeError, pickle.PicklingError):
            self.texts[f"{name} pickled"] = repr(pickle.dumps(error))
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in shown.stack:
            if not Path(frame.filename).is_relative_to(TESTS):
                where = f"{frame.filename}:{frame.lineno} {frame.name}"
                self.texts[f"{name} {where}"] = repr(frame.locals)

    def check(self) -> None:
        """Fail when a secret is in a text."""
        assert len(self.secrets) > 1
        assert len(self.texts) > 1
        for where, text in self.texts.items():
            for name, secret in self.secrets.items():
                assert secret not in text, f"{name} is in {where}"


@contextmanager
def watching() -> Iterator[Canary]:
    """Watch everything that is logged at debug level, by any logger, and check at the end."""
    canary = Canary()
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    before = [(logger, logger.level) for logger in every_logger()]
    for logger, _ in before:
        logger.setLevel(logging.DEBUG)
        if logger.name == "root" or not logger.propagate:
            logger.addHandler(handler)
    try:
        yield canary
        canary.texts["the debug log"] = log.getvalue()
        assert "lightspeed_azure" in log.getvalue(), "nothing was logged, so nothing was checked"
        canary.check()
    finally:
        for logger, level in before:
            logger.removeHandler(handler)
            logger.setLevel(level)


def every_logger() -> list[logging.Logger]:
    """Return all loggers there are: a stack inside the process sets the level of each."""
    named = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    return [logging.root, *named]
