"""A dead vault costs nothing, an answer is kept as long as it may be, and a crowd asks once."""

import asyncio
import logging
import os
import threading
import time
from typing import Any

import pytest
from pydantic import SecretStr
from resolving import Hanging, Hook, hook_fixture

from lightspeed_azure.concurrency.workers import MOST_ABANDONED, MOST_THREADS
from lightspeed_azure.errors import CredentialResolutionError, ResolverUnavailableError
from lightspeed_azure.keys import (
    PASS,
    Answer,
    HookCall,
    Outcome,
    aresolve_credential,
    resolve_credential,
)

__all__ = ["hook_fixture"]


class Vault:
    """A resolver that counts, and fails when told to."""

    name = "vault"

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.answer: Any = None

    def before(self, question: HookCall) -> object:
        """Answer with a key that says how often it was asked."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.answer or Answer(f"{question.provider_id}-{self.calls}")


def key(provider_id: str = "openai") -> str | None:
    """Ask for a key."""
    found = resolve_credential(provider_id, "openai_api_key")
    return found.get_secret_value() if found else None


@pytest.fixture(name="vault")
def vault_fixture() -> Vault:
    """A vault that is well."""
    return Vault()


def test_an_answer_is_given_again_until_it_ends(hook: Hook, vault: Vault) -> None:
    """`ttl` seconds, for each question by itself; 0 asks each time."""
    with hook.registered(vault, ttl=60):
        assert [key(), key(), key("other"), key()] == [
            "openai-1",
            "openai-1",
            "other-2",
            "openai-1",
        ]
        hook.scheduler.advance(59.9)
        assert key() == "openai-1"
        hook.scheduler.advance(0.1)
        assert key() == "openai-3"
        status = hook.registry.status()[0]
        assert (status.answers, status.cached, status.kept) == (6, 3, 2)
        assert status.oldest_kept == pytest.approx(60)
    with hook.registered(vault):
        assert [key(), key()] == ["openai-4", "openai-5"]


def test_an_answer_may_say_how_long_it_lasts(hook: Hook, vault: Vault) -> None:
    """Its own `ttl` counts, longer or shorter than the resolver's."""
    vault.answer = Answer("short", ttl=1)
    with hook.registered(vault, ttl=60):
        assert key() == "short"
        hook.scheduler.advance(1.1)
        vault.answer = None
        assert key() == "openai-2"


@pytest.mark.parametrize("said", [PASS, Answer(None)])
def test_that_there_is_no_key_is_kept_too(hook: Hook, vault: Vault, said: object) -> None:
    """A provider without a key does not cost a question each time."""
    vault.answer = said
    with hook.registered(vault, ttl=60):
        assert [key(), key()] == [None, None]
    assert vault.calls == 1


@pytest.mark.parametrize("on_error", ["fallback", "fail"])
def test_a_kept_answer_stands_in_while_the_resolver_fails(
    hook: Hook, vault: Vault, on_error: str
) -> None:
    """For `stale_if_error` seconds after it ended; then the failure counts."""
    with hook.registered(vault, ttl=60, stale_if_error=600, rest=0, on_error=on_error):
        assert key() == "openai-1"
        vault.error = RuntimeError("down")
        hook.scheduler.advance(61)
        assert key() == "openai-1"
        assert hook.registry.status()[0].stale == 1
        hook.scheduler.advance(598)
        assert key() == "openai-1"
        hook.scheduler.advance(2)
        if on_error == "fail":
            with pytest.raises(CredentialResolutionError):
                key()
        else:
            assert key() is None


def test_what_is_asked_each_time_may_stand_in_too(hook: Hook, vault: Vault) -> None:
    """Without a `ttl` an answer is kept for failures alone, where the operator says so."""
    with hook.registered(vault, stale_if_error=600, failures=9):
        assert [key(), key()] == ["openai-1", "openai-2"]
        vault.error = RuntimeError("down")
        assert key() == "openai-2"
        hook.scheduler.advance(601)
        assert key() is None
        vault.error, vault.answer = None, Answer("not-to-be-kept", ttl=0)
        assert key() == "not-to-be-kept"
        vault.error = RuntimeError("down")
        assert key() is None


def test_a_value_that_is_no_key_does_not_replace_a_good_one(hook: Hook, vault: Vault) -> None:
    """The good one stays in use, as a rotated file's does."""
    with hook.registered(vault, ttl=1):
        assert key() == "openai-1"
        vault.answer = Answer("two\nlines")
        hook.scheduler.advance(2)
        assert key() == "openai-1"
        assert hook.registry.status()[0].breaker == "closed"


def test_a_dead_vault_costs_nothing_after_the_first_failures(hook: Hook, vault: Vault) -> None:
    """After `failures` in a row it is left alone for `rest` seconds."""
    vault.error = RuntimeError("down")
    with hook.registered(vault, failures=3, rest=30):
        assert [key() for _ in range(50)] == [None] * 50
        assert vault.calls == 3
        status = hook.registry.status()[0]
        assert (status.breaker, status.failures, status.rested) == ("open", 3, 47)
        hook.scheduler.advance(29)
        assert [key(), vault.calls] == [None, 3]


def test_a_success_in_between_keeps_it_in_use(hook: Hook, vault: Vault) -> None:
    """Only failures in a row count."""
    with hook.registered(vault, failures=2):
        for _ in range(3):
            vault.error = RuntimeError("down")
            assert key() is None
            vault.error = None
            assert key() is not None
    assert vault.calls == 6


def wait_for_calls(vault: Vault, hook: Hook, calls: int) -> None:
    """Wait until a probe, for which no caller waits, is over."""
    until = time.monotonic() + 5
    while vault.calls < calls or hook.registry.status()[0].breaker == "half_open":
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_probe_brings_it_back_and_nobody_waits_for_it(hook: Hook, vault: Vault) -> None:
    """After the rest one question goes through; its caller falls back as before."""
    vault.error = RuntimeError("down")
    with hook.registered(vault, failures=1, rest=30):
        assert key() is None
        hook.scheduler.advance(30)
        assert key() is None
        wait_for_calls(vault, hook, 2)
        assert hook.registry.status()[0].breaker == "open"
        vault.error = None
        hook.scheduler.advance(30)
        assert key() is None
        wait_for_calls(vault, hook, 3)
        assert hook.registry.status()[0].breaker == "closed"
        assert key() == "openai-4"


def test_only_one_probe_at_a_time(hook: Hook) -> None:
    """While it hangs, nobody else asks, whatever the question."""
    hanging = Hanging()
    with hook.registered(hanging, failures=1, rest=30):
        assert hook.at_the_deadline(key, hanging.entered) is None
        hook.scheduler.advance(30)
        assert [key(), key("other"), key("third")] == [None] * 3
        until = time.monotonic() + 5
        while hanging.calls < 2:
            assert time.monotonic() < until
        assert hook.registry.status()[0].breaker == "half_open"
        hanging.let_go.set()
    assert hanging.calls == 2


def test_with_fail_the_probes_caller_gets_its_answer(hook: Hook, vault: Vault) -> None:
    """Who has nothing to fall back on waits for the probe, and meanwhile the error says so."""
    vault.error = RuntimeError("down")
    with hook.registered(vault, failures=1, rest=30, on_error="fail"):
        with pytest.raises(CredentialResolutionError, match="raised RuntimeError"):
            key()
        with pytest.raises(CredentialResolutionError, match="left alone") as caught:
            key()
        assert caught.value.reason == "resting"
        vault.error = None
        hook.scheduler.advance(30)
        assert key() == "openai-2"


def test_what_the_service_says_of_its_rest_counts(hook: Hook, vault: Vault) -> None:
    """A Retry-After opens the breaker at once, for as long as it says."""
    vault.error = ResolverUnavailableError("too many requests", retry_after=7)
    with hook.registered(vault, failures=3, rest=30):
        assert [key(), key()] == [None, None]
        assert vault.calls == 1
        vault.error = None
        hook.scheduler.advance(7)
        key()
        wait_for_calls(vault, hook, 2)
        assert key() == "openai-3"


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1, "soon"])
def test_no_number_leaves_it_alone_for_ever(hook: Hook, vault: Vault, nonsense: Any) -> None:
    """Neither as Retry-After nor as `ttl`."""
    vault.error = ResolverUnavailableError("busy", retry_after=nonsense)
    with hook.registered(vault, failures=1, rest=30, on_error="fail"):
        with pytest.raises(CredentialResolutionError):
            key()
        hook.scheduler.advance(31)
        vault.error, vault.answer = None, Answer("once", ttl=float("nan"))
        assert key() == "once"
        vault.answer = None
        assert key() == "openai-3"


def test_a_refused_question_rests_alone(hook: Hook, vault: Vault) -> None:
    """What is refused is not asked again for a while; other questions are."""
    vault.error = ResolverUnavailableError("forbidden", down=False, retry_after=10)
    with hook.registered(vault):
        assert [key(), key(), key()] == [None] * 3
        assert vault.calls == 1
        vault.error = None
        assert key("other") == "other-2"
        hook.scheduler.advance(10)
        assert key() == "openai-3"


async def test_a_crowd_asks_once(hook: Hook) -> None:
    """Threads and coroutines that ask the same share one asking."""
    go, entered = threading.Event(), threading.Event()
    calls = []

    def before(question: HookCall) -> object:
        calls.append(question)
        entered.set()
        go.wait(5)
        return Answer("shared")

    with hook.registered(before, ttl=60):  # a thread may come late
        threads = [asyncio.to_thread(key) for _ in range(4)]
        asking = [asyncio.ensure_future(each) for each in threads]
        asking += [
            asyncio.ensure_future(aresolve_credential("openai", "openai_api_key"))  # type: ignore[arg-type]
            for _ in range(100)
        ]
        assert await asyncio.to_thread(entered.wait, 5)
        asking[50].cancel()
        go.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert len(calls) == 1
    good = [str(getattr(each, "get_secret_value", lambda each=each: each)()) for each in answers]
    assert good.count("shared") == 103
    assert isinstance(answers[50], asyncio.CancelledError)


async def test_the_event_loop_goes_on_while_a_sync_resolver_works(hook: Hook) -> None:
    """It runs on a thread of its own."""
    done = threading.Event()
    thread = []

    def before(_: HookCall) -> object:
        thread.append(threading.current_thread())
        assert done.wait(5)
        return Answer("worked")

    with hook.registered(before):
        asking = asyncio.ensure_future(aresolve_credential("openai", "openai_api_key"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asking.done()
        done.set()
        found = await asking
    assert found == SecretStr("worked")
    assert thread[0] is not threading.main_thread()
    assert thread[0].daemon


def test_hanging_calls_cannot_use_up_the_threads(hook: Hook) -> None:
    """However many questions hang, a resolver has a dozen threads at most, and they end."""
    hanging = Hanging()
    before = threading.active_count()
    with hook.registered(hanging, failures=10_000):
        crowd = [threading.Thread(target=key, args=(f"p{n}",)) for n in range(40)]
        for thread in crowd:
            thread.start()
        assert hanging.entered.wait(5)
        until = time.monotonic() + 5
        while hanging.calls < MOST_THREADS:
            assert time.monotonic() < until
            time.sleep(0.001)
        while len(hook.scheduler.pending) < 40:
            assert time.monotonic() < until
            time.sleep(0.001)
        hook.scheduler.advance(5)
        for thread in crowd:
            thread.join(5)
        assert hanging.calls <= MOST_THREADS + MOST_ABANDONED
        assert hook.registry.status()[0].failures == 40
        hanging.let_go.set()
        while threading.active_count() > before:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert hook.registry.status()[0].hanging == 0


def test_a_late_answer_is_kept_for_those_who_come_after(hook: Hook) -> None:
    """What a slow resolver brings after its time limit is not thrown away."""

    class Slow(Hanging):
        def before(self, _: object) -> object:
            self.calls += 1
            self.entered.set()
            self.let_go.wait(20)
            return Answer("late-key")

    hanging = Slow()
    with hook.registered(hanging, ttl=600):
        assert hook.at_the_deadline(key, hanging.entered) is None
        hanging.let_go.set()
        until = time.monotonic() + 5
        while hook.registry.status()[0].kept == 0:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert key() == "late-key"
    assert hanging.calls == 1


def test_a_late_answer_does_not_replace_a_newer_one(hook: Hook) -> None:
    """Whoever asked last is believed, not whoever answers last."""

    class Changing(Hanging):
        def before(self, _: object) -> object:
            self.calls += 1
            if self.calls > 1:
                return Answer("new-key")
            self.entered.set()
            self.let_go.wait(20)
            return Answer("old-key")

    changing = Changing()
    with hook.registered(changing, ttl=600):
        assert hook.at_the_deadline(key, changing.entered) is None
        assert key() == "new-key"
        changing.let_go.set()
        until = time.monotonic() + 5
        while hook.registry.status()[0].hanging:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert key() == "new-key"


def test_after_has_a_breaker_of_its_own(hook: Hook, vault: Vault) -> None:
    """A broken end hook is left alone; the start hook of the same resolver goes on."""
    calls = []

    class Both:
        def before(self, question: HookCall) -> object:
            return vault.before(question)

        def after(self, _: HookCall, outcome: Outcome) -> object:
            calls.append(outcome)
            raise RuntimeError("broken")

    with hook.registered(Both(), failures=2):
        assert [key() for _ in range(5)] == [f"openai-{n}" for n in range(1, 6)]
        assert len(calls) == 2
        assert hook.registry.status()[0].breaker == "open"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_can_ask(hook: Hook, vault: Vault) -> None:
    """It has neither the parent's threads nor its locks, and the answers that were kept."""

    async def slow(question: HookCall) -> object:
        await asyncio.sleep(0)
        return Answer("of-the-loop") if question.provider_id == "async" else PASS

    with hook.registered(slow), hook.registered(vault, ttl=60):
        assert [key(), key("async")] == ["openai-1", "of-the-loop"]
        child = os.fork()
        if child == 0:
            good = [key(), key("new"), key("async")] == ["openai-1", "new-2", "of-the-loop"]
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0


class BlockedHandler(logging.Handler):
    """A log handler that accepts a line only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.accept = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Block."""
        del record
        self.entered.set()
        self.accept.wait(60)


def test_a_blocking_log_handler_delays_neither_the_timer_nor_the_callers(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line about a time-out is written on a thread of its own, after the callers are served."""
    handler = BlockedHandler()
    logger = logging.getLogger("lightspeed_azure.keys")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(handler)
    hanging = Hanging()
    try:
        with hook.registered(hanging, timeout=1):
            monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
            # The fake scheduler makes its calls on this thread, as the timer thread would.
            assert hook.at_the_deadline(key, hanging.entered) == "of-the-environment"
            assert handler.entered.wait(30)
    finally:
        handler.accept.set()
        hanging.let_go.set()
        logger.removeHandler(handler)


async def test_a_coroutine_stops_waiting_without_the_timer(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer makes no call, as its thread is missing; the coroutine goes on all the same."""
    monkeypatch.setattr("lightspeed_azure.keys.resolver.GRACE", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    hanging = Hanging()
    try:
        with hook.registered(hanging, timeout=0.1):
            found = await aresolve_credential("openai", "openai_api_key")
            assert found is not None
            assert found.get_secret_value() == "of-the-environment"
    finally:
        hanging.let_go.set()
