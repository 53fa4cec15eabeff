"""A resolver that fails is a clear error or is passed by, and no wrong key goes through."""

import asyncio
import pickle
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from faulty_resolvers import (
    FAULTS,
    SECRET,
    as_async,
    as_bytes,
    asking_wrongly,
    never_awaited_inside,
    raising,
    with_line_break,
)
from pydantic import SecretStr
from resolving import Hanging, Hook, hook_fixture

from lightspeed_azure.errors import (
    CredentialResolutionError,
    InvalidConfigurationError,
)
from lightspeed_azure.keys import (
    PASS,
    Answer,
    HookCall,
    Outcome,
    aresolve_credential,
    extensible,
    resolve_credential,
)

__all__ = ["hook_fixture"]

ASK = ("openai", "openai_api_key")


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Both kinds of resolver."""
    return as_async if request.param == "async" else lambda resolver: resolver


@pytest.mark.parametrize("resolver", FAULTS, ids=lambda resolver: resolver.__name__)
async def test_a_fault_is_a_clear_error(
    hook: Hook, kind: Callable[..., Any], resolver: Callable[[HookCall], object]
) -> None:
    """With `fail`: it names resolver, provider and field, and never shows the value."""
    with hook.registered(kind(resolver), name="mine", on_error="fail"):
        with pytest.raises(CredentialResolutionError) as caught:
            await aresolve_credential(*ASK)
        with pytest.raises(CredentialResolutionError):
            resolve_credential(*ASK)
        assert hook.registry.status()[0].last_error == FAULTS[resolver]
        assert SECRET not in repr(hook.registry.status())
    error = caught.value
    assert (error.resolver, error.provider_id, error.field) == ("mine", *ASK)
    assert error.reason == FAULTS[resolver]
    for name in ("'mine'", *ASK):
        assert name in str(error)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in shown.stack if "lightspeed_azure" in frame.filename]
    assert SECRET not in f"{error!r}{vars(error)}{[frame.locals for frame in ours]}"
    assert error.__context__ is None
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


@pytest.mark.parametrize("resolver", FAULTS, ids=lambda resolver: resolver.__name__)
async def test_a_fault_is_passed_by(
    hook: Hook,
    kind: Callable[..., Any],
    resolver: Callable[[HookCall], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `fallback`: as if it had passed; the next resolver answers, or the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    with hook.registered(kind(resolver)):
        for found in (await aresolve_credential(*ASK), resolve_credential(*ASK)):
            assert found is not None
            assert found.get_secret_value() == "of-the-environment"
        with hook.registered(lambda _: Answer("of-the-next")):
            found = resolve_credential(*ASK)
            assert found is not None
            assert found.get_secret_value() == "of-the-next"


@pytest.mark.parametrize("resolver", [raising, as_bytes, with_line_break, asking_wrongly])
def test_a_fault_after_the_function(
    hook: Hook,
    kind: Callable[..., Any],
    resolver: Callable[[HookCall], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `fallback` the outcome stays what it was; with `fail` it is the error."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")

    class After:
        def after(self, question: HookCall, _: Outcome) -> object:
            return resolver(question)

    class AsyncAfter:
        async def after(self, question: HookCall, _: Outcome) -> object:
            await asyncio.sleep(0)
            return resolver(question)

    after = AsyncAfter() if kind is as_async else After()
    with hook.registered(after):
        found = resolve_credential(*ASK)
        assert found is not None
        assert found.get_secret_value() == "of-the-environment"
    with (
        hook.registered(after, on_error="fail"),
        pytest.raises(CredentialResolutionError),
    ):
        resolve_credential(*ASK)


def test_a_failing_start_hook_breaks_no_look_up(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks every look-up of a key in Agent Zero, a start hook that raises, is passed by."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    monkeypatch.setenv("WATSONX_API_KEY", "of-the-environment-too")
    with hook.registered(raising):
        for provider in ("openai", "watsonx"):
            found = resolve_credential(provider, f"{provider}_api_key")
            assert found is not None
            assert found.get_secret_value().startswith("of-the-environment")
        assert resolve_credential("nobody", "nobody_api_key") is None


def test_a_later_resolver_can_mend_the_error_of_an_earlier_one(hook: Hook) -> None:
    """The error of `fail` is an outcome, too."""

    class Mending:
        def after(self, *_: object) -> object:
            return Answer("spare-key")

    with hook.registered(raising, on_error="fail"), hook.registered(Mending()):
        found = resolve_credential(*ASK)
    assert found is not None
    assert found.get_secret_value() == "spare-key"


@pytest.mark.parametrize("on_error", ["fail", "fallback"])
def test_a_resolver_that_hangs_is_given_up(
    hook: Hook, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its time limit the caller goes on, or gets an error that says so."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    hanging = Hanging()
    with hook.registered(hanging, name="slow", on_error=on_error):
        answer = hook.at_the_deadline(lambda: resolve_credential(*ASK), hanging.entered)
        status = hook.registry.status()[0]
        hanging.let_go.set()
    assert (status.last_error, status.hanging) == ("timeout", 1)
    if on_error == "fail":
        assert isinstance(answer, CredentialResolutionError)
        assert "'slow'" in str(answer)
        assert "within 5 s" in str(answer)
    else:
        assert isinstance(answer, SecretStr)
        assert answer.get_secret_value() == "of-the-environment"


def test_an_async_resolver_that_hangs_is_cancelled(hook: Hook) -> None:
    """Its coroutine is cancelled, and its loop serves the next question."""
    import threading

    entered, cancelled = threading.Event(), threading.Event()

    async def hang(question: HookCall) -> object:
        if question.provider_id == "good":
            return Answer("good-key")
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return PASS

    with hook.registered(hang):
        assert hook.at_the_deadline(lambda: resolve_credential(*ASK), entered) is None
        assert cancelled.wait(5)
        found = resolve_credential("good", "openai_api_key")
        assert found is not None
        assert hook.registry.status()[0].hanging == 0


def test_a_resolver_that_blocks_its_loop_gets_another(hook: Hook) -> None:
    """A blocking call in an async resolver holds up neither the caller nor the next question."""
    import threading

    entered, let_go = threading.Event(), threading.Event()

    async def block(question: HookCall) -> object:
        if question.provider_id == "good":
            return Answer("good-key")
        entered.set()
        let_go.wait(20)
        time.sleep(0)  # noqa: ASYNC251 - blocking is what is tested
        return PASS

    with hook.registered(block):
        assert hook.at_the_deadline(lambda: resolve_credential(*ASK), entered) is None
        found = resolve_credential("good", "openai_api_key")
        assert found is not None
        assert hook.registry.status()[0].hanging == 1
        let_go.set()


def test_a_generic_function_may_answer_with_anything_but_a_coroutine(hook: Hook) -> None:
    """Only functions that give keys check that it is one."""

    @extensible
    def numbers() -> list[int]:
        return [1]

    with hook.registered(lambda _: Answer([2, 3]), on=[numbers]):
        assert numbers() == [2, 3]
    with hook.registered(never_awaited_inside, on=[numbers]):
        assert numbers() == [1]


def test_our_own_errors_are_told(hook: Hook) -> None:
    """The text of a typed error, which holds no secret, is part of the message."""

    def ask(_: HookCall) -> object:
        raise InvalidConfigurationError("azure_entra_id: missing; add it")

    with (
        hook.registered(ask, on_error="fail"),
        pytest.raises(CredentialResolutionError, match="azure_entra_id: missing; add it"),
    ):
        resolve_credential(*ASK)
