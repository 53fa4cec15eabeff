"""The order of things around one call: resolvers, the function, resolvers again.

Written once as a generator, which says what is to be waited for; `extensible.py` waits on a thread
or awaits in a coroutine.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from lightspeed_azure.keys.fault import Fault
from lightspeed_azure.keys.flight import Flight
from lightspeed_azure.keys.question import Answer, Ask, Failure, Outcome, Question
from lightspeed_azure.keys.registration import Registration
from lightspeed_azure.keys.reply import Check, Reply

GRACE = 1.0
"""Seconds after the deadline for which a waiter relies on the timer."""


@dataclass(frozen=True, slots=True)
class Run:
    """Ask for the function itself to be run."""

    question: Question


type Steps = Generator[Flight | Run, Any, Outcome]
"""Yields a flight to be waited for, or `Run`, to be sent the outcome of."""


def steps(
    chain: Sequence[Registration], question: Question, check: Check | None, only: str | None
) -> Steps:
    """Go through one call.

    Args:
        chain: the resolvers, in their order.
        question: what was asked.
        check: of the function's result.
        only: the name of the one resolver to ask, before the function and after it; None: all.
    """
    asked = [each for each in chain if only in (None, each.settings.name)]
    outcome, question = yield from _before(asked, question, check)
    if outcome is None:
        outcome = yield Run(question)
        assert outcome is not None  # noqa: S101 - for the type checker
    for each in reversed(asked):
        said = yield from each.after(question, outcome, check)
        outcome = _instead(said, each, question) or outcome
    return outcome


def _before(
    chain: Sequence[Registration], question: Question, check: Check | None
) -> Generator[Flight, None, tuple[Outcome | None, Question]]:
    """Return what stands in for the function, if anything, and the question as it is by then."""
    for each in chain:
        said = yield from each.before(question, check)
        if isinstance(said, Ask):
            question = question.changed(said.changes)
        elif outcome := _instead(said, each, question):
            return outcome, question
    return None, question


def _instead(said: Reply, by: Registration, question: Question) -> Outcome | None:
    """Return the outcome that a reply decides, None when it decides nothing."""
    if isinstance(said, Answer):
        return said
    if isinstance(said, Fault) and by.settings.on_error == "fail":
        return Failure(said.error(by.settings.name, question))
    return None


def _next(going: Steps, given: Outcome | None) -> Flight | Run | Outcome:
    """Return what is to be waited for next, or what came of it all."""
    try:
        return going.send(given)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def run_sync(going: Steps, function: Callable[[Question], Any]) -> Any:
    """Go through a call on this thread; waits."""
    given: Outcome | None = None
    while not isinstance(wanted := _next(going, given), Answer | Failure):
        given = None
        if isinstance(wanted, Flight):
            wanted.wait(wanted.timeout + GRACE)
        else:
            try:
                given = Answer(function(wanted.question))
            except Exception as error:  # noqa: BLE001 - resolvers may turn it into an answer
                given = Failure(error)
    return _returned(wanted)


async def run_async(going: Steps, function: Callable[[Question], Any]) -> Any:
    """Go through a call in a coroutine; never holds up its event loop."""
    given: Outcome | None = None
    while not isinstance(wanted := _next(going, given), Answer | Failure):
        given = None
        if isinstance(wanted, Flight):
            await wanted.wait_async(wanted.timeout + GRACE)
        else:
            try:
                given = Answer(await function(wanted.question))
            except Exception as error:  # noqa: BLE001 - resolvers may turn it into an answer
                given = Failure(error)
    return _returned(wanted)


def _returned(outcome: Outcome) -> Any:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.value
