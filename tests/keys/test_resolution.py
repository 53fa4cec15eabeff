"""The hook: what a resolver may do before and after, and that without one nothing happens."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from resolving import Hook, hook_fixture

from lightspeed_azure import extensible, get_api_key, resolve_credential
from lightspeed_azure.errors import CredentialResolutionError, InvalidConfigurationError
from lightspeed_azure.keys import (
    PASS,
    Answer,
    Failure,
    HookCall,
    Outcome,
    ResolverRegistry,
    Rewrite,
    aget_api_key,
    aresolve_credential,
    registered,
    registry_replaced,
)
from lightspeed_azure.keys.resolver import Resolver

__all__ = ["hook_fixture"]


def value(secret: SecretStr | None) -> str | None:
    """Return what is in a secret."""
    return None if secret is None else secret.get_secret_value()


@extensible
def add(left: int, right: int = 1) -> int:
    """Add two numbers."""
    return left + right


@extensible
async def aadd(left: int, right: int = 1) -> int:
    """Add two numbers, later."""
    await asyncio.sleep(0)
    return left + right


class Counter:
    """Something with methods."""

    def __init__(self, start: int) -> None:
        self.start = start

    @extensible
    def plus(self, more: int) -> int:
        """Count on."""
        return self.start + more

    @classmethod
    @extensible
    def made(cls, start: int) -> "Counter":
        """Make one."""
        return cls(start)


async def both(ask: Callable[[], Any], later: Callable[[], Any]) -> set[Any]:
    """Return what a thread and what a coroutine get."""
    return {await asyncio.to_thread(ask), await later()}


def test_the_function_stays_itself(hook: Hook) -> None:
    """Signature, docstring, name and kind are the function's own."""
    assert str(inspect.signature(add)) == "(left: int, right: int = 1) -> int"
    assert (add.__doc__, add.__name__) == ("Add two numbers.", "add")
    assert inspect.iscoroutinefunction(aadd)
    assert not inspect.iscoroutinefunction(add)
    assert (add(1, right=2), Counter(3).plus(1), Counter.made(2).start) == (3, 4, 2)


def test_wrong_arguments_raise_what_the_function_raises(hook: Hook) -> None:
    """A resolver does not change what a wrong call looks like."""
    wrong: Any = add
    with (
        hook.registered(lambda _: PASS, on=[add]),
        pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'left'"),
    ):
        wrong()


async def test_nothing_is_asked_without_a_resolver(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and errors are the function's own, and no thread is started."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    assert value(get_api_key("openai")) == "of-the-environment"
    assert value(await aget_api_key("openai")) == "of-the-environment"
    assert value(resolve_credential("openai", "openai_api_key")) == "of-the-environment"
    assert await aresolve_credential("openai", "azure_api_base") is None
    assert not hook.scheduler.pending


async def test_an_answer_takes_the_functions_place(hook: Hook) -> None:
    """The function is not called, on a thread and in a coroutine alike."""
    with hook.registered(lambda _: Answer(7), on=[add, aadd]):
        assert await both(lambda: add(1), lambda: aadd(1)) == {7}


async def test_none_is_an_answer_and_pass_is_not(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Answer(None)` says that there is no key; `PASS` lets the next one speak."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    with hook.registered(lambda _: Answer(None)):
        assert get_api_key("openai") is None
        assert await aget_api_key("openai") is None
    with hook.registered(lambda _: PASS):
        assert value(get_api_key("openai")) == "of-the-environment"
        assert value(await aget_api_key("openai")) == "of-the-environment"


async def test_a_question_may_be_changed(hook: Hook) -> None:
    """What follows, resolvers and function, sees the changed arguments."""
    seen = []

    def spy(question: HookCall) -> object:
        seen.append(dict(question.arguments))
        return PASS

    with (
        hook.registered(lambda _: Rewrite(right=10), on=[add, aadd]),
        hook.registered(spy, on=[add, aadd]),
    ):
        assert await both(lambda: add(1), lambda: aadd(1)) == {11}
    assert seen == [{"left": 1, "right": 10}] * 2


async def test_resolvers_are_asked_in_order(hook: Hook) -> None:
    """Ascending `order` before the function, the other way round after it."""
    trace: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def before(self, _: HookCall) -> object:
            trace.append(f"before {self.name}")
            return PASS

        async def after(self, *_: object) -> object:
            trace.append(f"after {self.name}")
            return PASS

    with (
        hook.registered(Named("c"), order=5, on=[add]),
        hook.registered(Named("b"), on=[add]),
        hook.registered(Named("a"), order=-5, on=[add]),
    ):
        assert await asyncio.to_thread(add, 1) == 2
        assert [each.name for each in hook.registry.status()] == ["a", "b", "c"]
    assert trace == [f"before {n}" for n in "abc"] + [f"after {n}" for n in "cba"]


async def test_after_may_wrap_the_answer(hook: Hook) -> None:
    """Whoever answered: the function, or a resolver before it."""

    class Doubling:
        def after(self, _: HookCall, outcome: Outcome) -> object:
            return Answer(outcome.value * 2) if isinstance(outcome, Answer) else PASS

    with hook.registered(Doubling(), on=[add, aadd]):
        assert await both(lambda: add(1), lambda: aadd(1)) == {4}
        with hook.registered(lambda _: Answer(50), on=[add, aadd]):
            assert await both(lambda: add(1), lambda: aadd(1)) == {100}


async def test_after_may_turn_an_error_into_an_answer(hook: Hook) -> None:
    """The function's own error is in the outcome; left alone, it is raised as it is."""
    error = ZeroDivisionError("of the function")

    @extensible
    def broken() -> int:
        raise error

    @extensible
    async def abroken() -> int:
        raise error

    class Mending:
        def after(self, _: HookCall, outcome: Outcome) -> object:
            return Answer(0) if isinstance(outcome, Failure) and outcome.error is error else PASS

    class Watching:
        def after(self, *_: object) -> object:
            return PASS

    with hook.registered(Mending(), on=[broken, abroken]):
        assert await both(broken, abroken) == {0}
    with (
        hook.registered(Watching(), on=[broken]),
        pytest.raises(ZeroDivisionError, match="of the function") as caught,
    ):
        broken()
    assert caught.value is error


def test_methods_are_told_apart_by_their_object(hook: Hook) -> None:
    """`self` is an argument like others, so two objects are two questions."""

    def answer(question: HookCall) -> object:
        return Answer(question.arguments["self"].start * 100)

    with hook.registered(answer, on=[Counter.plus], ttl=60):
        assert (Counter(1).plus(1), Counter(2).plus(1)) == (100, 200)


def test_arguments_that_cannot_be_compared_work(hook: Hook) -> None:
    """They are asked each time, kept never."""

    @extensible
    def size(items: list[int]) -> int:
        return len(items)

    calls = []

    def answer(question: HookCall) -> object:
        calls.append(question)
        return Answer(len(question.arguments["items"]) + 100)

    with hook.registered(answer, on=[size], ttl=60):
        assert (size([1]), size([1, 2]), size([1])) == (101, 102, 101)
    assert len(calls) == 3


def test_who_asks_one_resolver_does_not_depend_on_another(hook: Hook) -> None:
    """Neither one that fails nor one that would replace the answer is asked, before or after."""

    class Other:
        def after(self, _: HookCall, __: Outcome) -> object:
            raise RuntimeError("down")

    with (
        hook.registered(lambda _: Answer("one"), name="one"),
        hook.registered(Other(), name="other", on_error="fail"),
    ):
        ask = ("openai", "openai_api_key")
        assert value(resolve_credential(*ask, resolver="one")) == "one"
        with pytest.raises(CredentialResolutionError, match="other"):
            resolve_credential(*ask)


async def test_one_resolver_can_be_asked_alone(hook: Hook) -> None:
    """`resolver=` skips the others; an unknown name is an error that names those there are."""
    with (
        hook.registered(lambda _: Answer("one"), name="one"),
        hook.registered(lambda _: Answer("two"), name="two"),
    ):
        ask = ("openai", "openai_api_key")
        assert value(resolve_credential(*ask, resolver="two")) == "two"
        assert value(await aresolve_credential(*ask, resolver="two")) == "two"
        assert value(resolve_credential(*ask)) == "one"
        with pytest.raises(
            InvalidConfigurationError, match=r"no credential resolver of that name.*are one, two"
        ):
            resolve_credential(*ask, resolver="three")
    with pytest.raises(InvalidConfigurationError, match=r"of that name.*none is registered"):
        await aresolve_credential(*ask, resolver="two")


def test_a_registration_ends_with_its_block(hook: Hook) -> None:
    """Also when blocks overlap, and when the block fails."""
    outer = registered(lambda _: Answer("outer"), name="outer")
    inner = registered(lambda _: Answer("inner"), name="inner", order=-1)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert value(get_api_key("openai")) == "inner"
    inner.__exit__(None, None, None)
    assert get_api_key("openai") is None
    with (
        pytest.raises(ZeroDivisionError),
        registered(lambda _: Answer("x")),
    ):
        raise ZeroDivisionError
    assert get_api_key("openai") is None


@pytest.mark.parametrize(
    ("resolver", "settings", "match"),
    [
        (object(), {}, "neither before"),
        (len, {"timeout": 0}, "'len': timeout: must be more than 0"),
        (len, {"on_error": "ignore"}, "on_error: must be one of fallback, fail"),
        (len, {"ttl": -1}, "ttl: must be at least 0 seconds"),
        (len, {"failures": 0}, "failures: must be at least 1"),
        (len, {"colour": "red"}, "colour: there is no such key"),
    ],
)
def test_a_registration_that_cannot_work_is_refused(
    hook: Hook, resolver: object, settings: dict[str, Any], match: str
) -> None:
    """Nothing is registered, and the error says what is wrong."""
    with (
        pytest.raises(InvalidConfigurationError, match=match),
        hook.registered(resolver, **settings),
    ):
        pass
    assert hook.registry.status() == ()


def test_who_registers_while_another_asks_is_not_missed(hook: Hook) -> None:
    """A function that is just finding out its resolvers does not remember the list from before."""
    entered: list[Any] = []

    class Racing(ResolverRegistry):
        def resolvers_of(self, function: str) -> tuple[Resolver, ...]:
            found = super().resolvers_of(function)
            if not entered:
                entered.append(self.registered(lambda _: Answer("of-the-late-one")))
                entered[0].__enter__()
            return found

    with registry_replaced(Racing(entry_points=list)):
        assert get_api_key("openai") is None
        assert value(get_api_key("openai")) == "of-the-late-one"
        entered[0].__exit__(None, None, None)


def test_names_are_unique(hook: Hook) -> None:
    """A name that is taken is refused; one that nobody chose is numbered."""
    with hook.registered(lambda _: PASS, name="mine"):
        with (
            pytest.raises(InvalidConfigurationError, match="'mine' is registered already"),
            hook.registered(lambda _: PASS, name="mine"),
        ):
            pass
        with hook.registered(len), hook.registered(len):
            names = [each.name for each in hook.registry.status()]
    assert names == ["mine", "len", "len-2"]


async def test_sync_callers_on_an_event_loop_reach_async_resolvers(hook: Hook) -> None:
    """The resolver runs on a loop of its own, so a call that holds up this one still ends."""
    loops = set()

    async def answer(question: HookCall) -> object:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return Answer(question.provider_id)

    with hook.registered(answer):
        assert value(get_api_key("openai")) == "openai"
        assert value(await aget_api_key("other")) == "other"
    assert len(loops) == 1
    assert asyncio.get_running_loop() not in loops


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_resolver_may_ask_for_a_key_itself(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What it asks passes it by: no endless recursion, and no wait for itself."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")

    def wrap(question: HookCall) -> object:
        return Answer(f"wrapped {value(get_api_key(question.provider_id))}")

    async def awrap(question: HookCall) -> object:
        return Answer(f"wrapped {value(get_api_key(question.provider_id))}")

    with hook.registered(wrap if kind == "sync" else awrap):
        assert value(get_api_key("openai")) == "wrapped of-the-environment"


def test_a_class_below_is_refused() -> None:
    """The decorator belongs on the function, and says so."""
    with pytest.raises(TypeError, match="below @classmethod"):
        extensible(vars(Counter)["made"])


def test_an_async_generator_is_refused() -> None:
    """Resolvers would be waited for on the event loop."""

    async def pieces() -> AsyncIterator[str]:
        yield "a piece"

    with pytest.raises(TypeError, match="cannot step into an async generator"):
        extensible(pieces)
