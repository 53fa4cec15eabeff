"""Resolvers that fail, each in its own way."""

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.errors import ResolverUnavailableError
from lightspeed_azure.keys import Answer, HookCall, Rewrite

SECRET = "sk-can4ry-in-a-resolver"


def raising(_: HookCall) -> object:
    """Raise, with the key in the text."""
    raise RuntimeError(SECRET)


def leaving(_: HookCall) -> object:
    """Try to end the process."""
    raise SystemExit(SECRET)


def unavailable(_: HookCall) -> object:
    """Say in its own words what is wrong."""
    raise ResolverUnavailableError("the safe is shut")


def as_bytes(_: HookCall) -> object:
    """Forget to decode."""
    return Answer(SECRET.encode())


def as_mapping(_: HookCall) -> object:
    """Answer with all that there is."""
    return Answer({"openai_api_key": SECRET, "other": SECRET})


def huge(_: HookCall) -> object:
    """Answer with more than a header can carry."""
    return Answer(SECRET * 1000)


def with_line_break(_: HookCall) -> object:
    """Answer with a header of its own."""
    return Answer(f"{SECRET}\r\nX-Evil: 1")


def ending_in_line_break(_: HookCall) -> object:
    """Answer with the file's last line break."""
    return Answer(SecretStr(f"{SECRET}\n"))


def with_nul(_: HookCall) -> object:
    """Answer with a control character."""
    return Answer(f"{SECRET}\0")


def empty(_: HookCall) -> object:
    """Answer with nothing."""
    return Answer(SecretStr("  "))


def of_another_field(_: HookCall) -> object:
    """Answer with what belongs to another field."""
    return Answer(SECRET, provider_id="openai", field="azure_api_key")


def of_another_provider(_: HookCall) -> object:
    """Answer with another provider's key."""
    return Answer(SECRET, provider_id="watsonx")


async def _later() -> str:
    return SECRET


def never_awaited(_: HookCall) -> object:
    """Return a coroutine without being one."""
    return _later()


def never_awaited_inside(_: HookCall) -> object:
    """Answer with a coroutine."""
    return Answer(_later())


def returning_nothing(_: HookCall) -> object:
    """Forget to return."""
    return None


def returning_text(_: HookCall) -> object:
    """Return the key, and not an answer."""
    return SECRET


def asking_wrongly(_: HookCall) -> object:
    """Ask on with an argument that there is not."""
    return Rewrite(provider="openai")


FAULTS: dict[Callable[[HookCall], object], str] = {
    raising: "raised",
    leaving: "raised",
    unavailable: "unavailable",
    as_bytes: "not_text",
    as_mapping: "not_text",
    huge: "too_large",
    with_line_break: "line_break",
    ending_in_line_break: "line_break",
    with_nul: "line_break",
    empty: "empty",
    of_another_field: "another_field",
    of_another_provider: "another_field",
    never_awaited: "never_awaited",
    never_awaited_inside: "never_awaited",
    returning_nothing: "no_answer",
    returning_text: "no_answer",
    asking_wrongly: "unknown_argument",
}


def as_async(resolver: Callable[[HookCall], object]) -> Callable[..., Any]:
    """Return the same resolver as a coroutine function."""

    async def before(question: HookCall) -> object:
        await asyncio.sleep(0)
        return resolver(question)

    return before
