"""From what a resolver returned to what it said; nothing here raises, for no traceback shows a value."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.keys.fault import Fault
from lightspeed_azure.keys.question import Answer, Ask, Pass, Question

LARGEST = 16_000
"""Characters of a key: h11, uvicorn's default parser, refuses a header's value over 16.7 kB."""

type Reply = Answer | Ask | Pass | Fault

type Check = Callable[[Any], Any]
"""Returns a clean value, or a `Fault`."""

_AWAIT = "write async def, and await what it calls"


def reply_of(returned: Any, question: Question, check: Check | None, *, asks: bool = True) -> Reply:
    """Return what a resolver said.

    Args:
        returned: what it returned.
        question: what it was asked.
        check: of the function's result, if it must be of some kind.
        asks: whether it may ask on; after the function it is too late.
    """
    if isinstance(returned, Pass | Fault):
        return returned
    if _closed(returned):
        return Fault("never_awaited", f"returned a coroutine that nobody awaits; {_AWAIT}")
    if isinstance(returned, Ask) and asks:
        unknown = sorted(returned.changes.keys() - question.arguments.keys())
        if unknown:
            text = f"asks on with {', '.join(unknown)}; the arguments are "
            return Fault("unknown_argument", text + ", ".join(question.arguments))
        return returned
    if not isinstance(returned, Answer):
        text = f"returned {type(returned).__name__}; it must return "
        text += "Answer(…), Ask(…) or PASS" if asks else "Answer(…) or PASS"
        return Fault("no_answer", text)
    return _answer(returned, question, check)


def credential(value: Any) -> SecretStr | Fault | None:
    """Return a key as a secret, None for none, or what is wrong with it."""
    if value is None:
        return None
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        kind = type(text).__name__
        return Fault("not_text", f"answered with {kind}; a key is text, decode or pick it")
    if not text.strip():
        return Fault("empty", "answered with an empty text; answer with None where there is no key")
    if len(text) > LARGEST:
        size = f"{len(text)} characters, more than the {LARGEST} that a header can carry"
        return Fault("too_large", f"answered with {size}; answer with the key alone")
    if not text.isprintable():
        what = "with a line break or a control character in it"
        return Fault("line_break", f"answered with a key {what}; answer with the key alone")
    return value if isinstance(value, SecretStr) else SecretStr(text)


def _answer(answer: Answer, question: Question, check: Check | None) -> Answer | Fault:
    asked = (question.provider_id, question.field)
    given = (answer.provider_id, answer.field)
    if any(mine not in (None, theirs) for mine, theirs in zip(given, asked, strict=True)):
        told = "/".join(str(part or "?") for part in given)
        return Fault("another_field", f"answered with the key of {told}, which is another")
    if _closed(answer.value):
        return Fault("never_awaited", f"answered with a coroutine; {_AWAIT}")
    if not isinstance(answer.ttl, int | float | None):
        return Fault("no_answer", "answered with a ttl that is no number of seconds")
    if check is None:
        return answer
    value = check(answer.value)
    if isinstance(value, Fault):
        return value
    return Answer(value, answer.ttl)


def _closed(value: Any) -> bool:
    """Return whether it is something to await, and close it so that nothing warns of it."""
    if inspect.iscoroutine(value):
        value.close()
        return True
    return inspect.isawaitable(value)
