"""The token cache's promises, one by one, with a clock that does what it is told."""

import asyncio
import contextlib
import gc
import json
import logging
import math
import traceback
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from token_cache_fakes import Answer, FakeClock, Stage, numbered, outage, refusal, token

from lightspeed_azure.concurrency.clock import SystemClock
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.errors import CredentialRejectedError, TokenUnavailableError
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.lifetime import LONGEST_RETRY_AFTER, PERMANENT_PAUSE, Token
from lightspeed_azure.tokens.source import Attempt, IssuedToken


def secret_of(cache: TokenCache) -> str:
    """Return the text of the token that a caller gets."""
    return cache.get().secret.get_secret_value()


def test_nothing_is_fetched_before_the_first_use() -> None:
    """Making a cache, looking at it and letting time pass starts nothing."""
    stage = Stage(numbered())
    assert stage.cache.peek() is None
    assert stage.cache.latest() is None
    assert stage.cache.status().zone == "empty"
    stage.advance(10_000)
    assert stage.attempts == []


def test_first_caller_starts_the_fetch_and_others_join_it() -> None:
    """Callers without a token share one request and get the same object."""
    stage = Stage()
    callers = [stage.in_thread(stage.cache.get) for _ in range(5)]
    assert stage.cache.status().waiting == 5
    assert len(stage.calls) == 1
    stage.calls[0].answer(token("one"))
    assert len({id(caller.result(5)) for caller in callers}) == 1
    assert stage.cache.status().waiting == 0


def test_fresh_token_is_returned_at_once() -> None:
    """A fresh token is the same object each time, and asking for it starts nothing."""
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.advance(1700)
    assert stage.cache.get() is first
    assert asyncio.run(stage.cache.aget()) is first
    assert len(stage.attempts) == 1
    assert first.number == 1


def test_stale_token_is_returned_while_one_renewal_runs_behind() -> None:
    """Past half of its life callers get the current token, and exactly one request is made."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.calls[0].answer(token("one"))
    first = caller.result(5)
    stage.clock.mono_now += 1801
    stage.clock.wall_now += 1801
    assert [stage.cache.get() for _ in range(9)] == [first] * 9
    assert asyncio.run(stage.cache.aget()) is first
    assert len(stage.calls) == 2
    stage.calls[1].answer(token("two"))
    assert secret_of(stage.cache) == "two"


@pytest.mark.parametrize(
    ("lifetime", "refresh_in", "chance", "due"),
    [
        (3600, None, 0.0, 1800),
        (3600, None, 1.0, 1620),
        (7200, 5000, 0.5, 5000),
        (3600, 3500, 0.0, 3300),
        (500, None, 0.0, 200),
        (400, 390, 0.0, 100),
        (301, None, 0.0, 30),
        (200, None, 0.0, 100),
        (8, None, 0.0, 4),
        (3600, 1, 0.0, 360),
        (3600, 359, 0.0, 360),
        (3600, 361, 0.0, 361),
        (86400, 30, 0.0, 8640),
        (200, 1, 0.0, 30),
        (60, 1, 0.0, 15),
        (3600, -5, 0.0, 1800),
        (3600, 9999, 0.0, 1800),
    ],
)
def test_renewal_is_due(
    lifetime: float, refresh_in: float | None, chance: float, due: float
) -> None:
    """By the issuer's word or half-life less jitter, and 300 s before the end where it can be."""
    stage = Stage(lambda _attempt: token("one", lifetime, refresh_in))
    stage.chance = chance
    stage.cache.get()
    assert stage.cache.status().next_attempt == pytest.approx(due, abs=1e-3)
    stage.clock.mono_now += due - 0.01
    assert stage.cache.status().zone == "fresh"
    stage.clock.mono_now += 0.02
    assert stage.cache.status().zone == "stale"


def test_small_refresh_in_makes_few_requests() -> None:
    """An issuer that asks for a renewal each second is asked ten times an hour, however busy."""
    stage = Stage(lambda _attempt: token(f"token-{len(stage.attempts)}", refresh_in=1.0))
    stage.cache.get()
    for _ in range(3600):
        stage.cache.get()
        stage.advance(1)
    assert len(stage.attempts) == 1 + 10


def test_idle_timer_renews_a_token_that_was_used_and_then_stops() -> None:
    """A used token is renewed without a caller; one that nobody used since is not."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.advance(1801)
    assert len(stage.attempts) == 2
    assert secret_of(stage.cache) == "token-2"
    stage.advance(1801)
    assert len(stage.attempts) == 3
    stage.advance(50_000)
    assert len(stage.attempts) == 3
    assert stage.scheduler.pending == []
    assert secret_of(stage.cache) == "token-4"


def test_looking_is_no_use() -> None:
    """`peek`, `latest` and `status` do not keep the idle timer going; `renew_if_due` does."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.advance(1801)
    stage.cache.peek()
    stage.cache.latest()
    stage.cache.status()
    stage.advance(1801)
    assert len(stage.attempts) == 2
    stage.cache.renew_if_due()
    assert len(stage.attempts) == 3
    stage.cache.renew_if_due()
    stage.advance(1801)
    assert len(stage.attempts) == 4


def test_peek_and_latest_differ_after_expiry() -> None:
    """An expired token is shown by `latest` only."""
    stage = Stage(numbered())
    held = stage.cache.get()
    assert stage.cache.peek() is held
    stage.clock.mono_now += 3600
    assert stage.cache.peek() is None
    assert stage.cache.latest() is held


@pytest.mark.parametrize(("lifetime", "leeway"), [(3600, 30), (100, 10), (5, 0.5)])
def test_leeway_is_30_s_and_at_most_a_tenth_of_the_lifetime(lifetime: float, leeway: float) -> None:
    """A token counts as expired shortly before it is, and tokens of a few seconds work."""
    stage = Stage(lambda _attempt: token("one", lifetime))
    stage.cache.get()
    stage.clock.mono_now += lifetime - leeway - 0.01
    assert stage.cache.status().zone == "stale"
    stage.clock.mono_now += 0.02
    assert stage.cache.status().zone == "expired"
    assert stage.cache.peek() is None


def test_deadline_lets_waiters_go_and_abandons_the_flight() -> None:
    """Nobody waits longer than the deadline, and each gets an error of its own."""
    stage = Stage(deadline=15.0)
    callers = [stage.in_thread(stage.cache.get) for _ in range(3)]
    stage.advance(14.9)
    late = stage.in_thread(stage.cache.get)
    assert not any(caller.done() for caller in [*callers, late])
    stage.advance(0.2)
    errors = [caller.exception(5) for caller in [*callers, late]]
    assert all(isinstance(error, TokenUnavailableError) for error in errors)
    assert len({id(error) for error in errors}) == 4
    assert "15 s" in str(errors[0])
    stage.calls[0].answer(token("late"))


def test_source_is_told_to_finish_within_the_deadline() -> None:
    """The attempt's own time ends before the waiters', so that the source's words reach them."""
    stage = Stage(numbered(), deadline=15.0)
    stage.cache.get()
    assert 10 < stage.attempts[0].timeout < 15
    assert stage.attempts[0].sent_at == stage.clock.wall_now
    assert stage.attempts[0].previous is None
    stage.cache.refresh()
    assert stage.attempts[1].previous == SecretStr("token-1")


def test_late_answer_counts_if_there_is_nothing_better() -> None:
    """An abandoned flight's token is taken when none is held."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.advance(15)
    assert isinstance(caller.exception(5), TokenUnavailableError)
    stage.calls[0].answer(token("late"))
    assert secret_of(stage.cache) == "late"
    assert stage.cache.status().consecutive_failures == 0
    # Its life began when its request was sent.
    assert stage.cache.status().remaining == 3585


def test_late_answer_does_not_replace_a_better_token() -> None:
    """An abandoned flight's token is dropped when the one in hand lasts longer."""
    stage = Stage()
    stage.in_thread(stage.cache.get)
    stage.advance(15)
    stage.advance(2)
    caller = stage.in_thread(stage.cache.get)
    stage.calls[-1].answer(token("timely"))
    caller.result(5)
    stage.calls[0].answer(token("late"))
    assert secret_of(stage.cache) == "timely"


def test_late_answer_serves_those_who_wait_for_the_next_flight() -> None:
    """A good token lets everybody go, whichever request brought it."""
    stage = Stage()
    stage.in_thread(stage.cache.get)
    stage.advance(17)
    caller = stage.in_thread(stage.cache.get)
    assert len(stage.calls) == 2
    stage.calls[0].answer(token("late"))
    assert caller.result(5).secret.get_secret_value() == "late"
    stage.calls[1].answer(outage())
    assert secret_of(stage.cache) == "late"
    assert stage.cache.status().consecutive_failures == 0


def test_late_answer_does_not_bring_back_a_rejected_token() -> None:
    """An abandoned flight's answer from before the rejection does not count."""
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.reply = None
    stage.clock.mono_now += 1801
    assert stage.cache.get() is first
    stage.advance(15)
    assert stage.cache.invalidate(first.secret)
    stage.calls[0].answer(token("token-1"))
    assert stage.cache.peek() is None


def test_answer_to_a_request_from_before_a_fork_does_not_count() -> None:
    """What was under way when the process forked is nothing to the child."""
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.reply = None
    stage.clock.mono_now += 1801
    assert stage.cache.get() is first
    stage.cache.after_fork()
    stage.calls[0].answer(token("the parent's"))
    assert stage.cache.peek() is first
    assert stage.cache.status().renewals == 1


def test_cache_recovers_from_flights_that_never_return() -> None:
    """A flight counts for a while only, longer each time; then the source is asked again."""
    stage = Stage()
    for _ in range(2):
        stage.in_thread(stage.cache.get)
        stage.advance(17)
    with pytest.raises(TokenUnavailableError) as caught:
        stage.cache.get()
    assert str(caught.value) == (
        "2 requests for a token for azure hang. "
        "Check the network and the proxy between here and the authority"
    )
    stage.advance(60)
    caller = stage.in_thread(stage.cache.get)
    assert len(stage.calls) == 3
    stage.calls[2].answer(token("at last"))
    assert caller.result(5).secret.get_secret_value() == "at last"
    for call in stage.calls[:2]:
        call.answer(outage())
    assert secret_of(stage.cache) == "at last"


def test_source_that_hangs_for_a_day_holds_few_threads() -> None:
    """Each flight that never returns holds a thread, so they are started ever more rarely."""
    stage = Stage()
    for _ in range(24 * 60):
        if not stage.cache.status().refreshing:
            with contextlib.suppress(TokenUnavailableError):
                stage.cache.renew_if_due()
        stage.advance(60)
    assert 10 < len(stage.calls) < 65
    for call in stage.calls:
        call.answer(outage())


def test_two_abandoned_flights_are_the_most() -> None:
    """While two requests hang no third is made; callers fail fast until one returns."""
    stage = Stage()
    for _ in range(2):
        stage.in_thread(stage.cache.get)
        stage.advance(17)
    assert len(stage.calls) == 2
    with pytest.raises(TokenUnavailableError, match="hang"):
        stage.cache.get()
    stage.advance(100)
    assert len(stage.calls) == 2
    stage.calls[0].answer(outage())
    caller = stage.in_thread(stage.cache.get)
    assert len(stage.calls) == 3
    stage.calls[2].answer(token("at last"))
    assert caller.result(5).secret.get_secret_value() == "at last"
    for call in stage.calls[:2]:
        call.answer(outage())
    assert secret_of(stage.cache) == "at last"
    stage.calls[1].answer(outage())


def test_outage_until_just_before_expiry_fails_and_delays_nobody() -> None:
    """A failing renewal leaves the valid token in use, and the end of the outage is noticed."""
    up = True
    count = numbered()

    def reply(attempt: Attempt) -> Answer:
        return count(attempt) if up else outage()

    stage = Stage(reply)
    stage.chance = 0.99
    first = stage.cache.get()
    up = False
    for _ in range(3560):
        stage.advance(1)
        assert stage.cache.get() is first
    assert stage.cache.status().failures > 5
    up = True
    stage.advance(9)
    assert secret_of(stage.cache) == "token-2"


def test_failure_without_a_token_is_shared_and_then_fails_fast() -> None:
    """All waiters get the same typed error; later ones get it at once until the back-off ends."""
    stage = Stage()
    stage.chance = 0.9
    callers = [stage.in_thread(stage.cache.get) for _ in range(3)]
    stage.calls[0].answer(outage())
    errors = [caller.exception(5) for caller in callers]
    assert {str(error) for error in errors} == {"Entra ID answers 503"}
    assert len({id(error) for error in errors}) == 3
    with pytest.raises(TokenUnavailableError) as caught:
        stage.cache.get()
    assert caught.value.retry_after == pytest.approx(0.9)
    assert len(stage.calls) == 1
    stage.clock.mono_now += 1
    stage.in_thread(stage.cache.get)
    assert len(stage.calls) == 2
    stage.calls[1].answer(token("one"))


def test_backoff_grows_with_jitter_up_to_a_minute() -> None:
    """Each failure in a row doubles the longest pause, of which chance takes a share."""
    stage = Stage(lambda _attempt: outage())
    stage.chance = 0.5
    pauses: list[float] = []
    for _ in range(9):
        with pytest.raises(TokenUnavailableError) as caught:
            stage.cache.get()
        pauses.append(caught.value.retry_after or math.nan)
        stage.clock.mono_now += pauses[-1]
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])


@pytest.mark.parametrize(
    ("asked", "pause"),
    [(7.0, 7.0), (1e9, LONGEST_RETRY_AFTER), (math.inf, LONGEST_RETRY_AFTER), (math.nan, 0.25)],
)
def test_retry_after_is_honoured_within_reason(asked: float, pause: float) -> None:
    """The service's word is the least pause, unless it is absurd."""
    stage = Stage(lambda _attempt: outage(asked))
    with pytest.raises(TokenUnavailableError) as caught:
        stage.cache.get()
    assert caught.value.retry_after == pause
    stage.clock.mono_now += pause - 0.1
    with pytest.raises(TokenUnavailableError):
        stage.cache.get()
    assert len(stage.attempts) == 1


def test_attempts_grow_denser_towards_the_end() -> None:
    """While a token is valid, the pause is at most half of what it has left."""
    answers: list[Answer] = [token("one", 100)]
    stage = Stage(lambda _attempt: answers.pop() if answers else outage())
    stage.chance = 0.999
    stage.cache.get()
    stage.advance(89.5)
    assert stage.cache.status().next_attempt == pytest.approx(0.3, abs=0.3)
    assert stage.cache.peek() is not None


def test_permanent_failure_is_cached_until_the_credential_changes() -> None:
    """Callers fail fast on a refused credential, and it is tried as soon as its files change."""
    stage = Stage(lambda _attempt: refusal())
    for _ in range(3):
        with pytest.raises(CredentialRejectedError) as caught:
            stage.cache.get()
        assert caught.value.code == "AADSTS7000215"
    assert len(stage.attempts) == 1
    stage.reply = numbered()
    stage.version = 2
    stage.clock.mono_now += 1
    assert secret_of(stage.cache) == "token-1"


def test_permanent_failure_is_tried_again_after_a_while() -> None:
    """What mends a refusal may happen at the other end, so it is not cached for ever."""
    stage = Stage(lambda _attempt: refusal())
    with pytest.raises(CredentialRejectedError):
        stage.cache.get()
    stage.reply = numbered()
    stage.clock.mono_now += PERMANENT_PAUSE - 0.1
    with pytest.raises(CredentialRejectedError):
        stage.cache.get()
    stage.clock.mono_now += 0.2
    assert secret_of(stage.cache) == "token-1"


def test_credential_is_looked_at_once_a_second_at_most() -> None:
    """Failing fast does not mean reading files for every request."""
    stage = Stage(lambda _attempt: refusal())
    for _ in range(100):
        with pytest.raises(CredentialRejectedError):
            stage.cache.get()
    assert stage.looks == 2  # before the attempt, and once since


def test_credential_that_cannot_be_looked_at_has_not_changed() -> None:
    """A fingerprint that raises breaks nothing."""

    class Blind(Stage):
        def fingerprint(self) -> object:
            raise OSError

    stage = Blind(lambda _attempt: refusal())
    for _ in range(2):
        with pytest.raises(CredentialRejectedError):
            stage.cache.get()
    assert len(stage.attempts) == 1


def test_same_token_counts_as_success() -> None:
    """A source with a cache of its own is asked again after half of what remains, at least 30 s."""
    stage = Stage(lambda attempt: token("one", 1_700_003_600 - attempt.sent_at))
    first = stage.cache.get()
    moments = []
    while stage.clock.wall_now < 1_700_003_500:
        pause = stage.cache.status().next_attempt
        assert pause is not None
        stage.advance(pause)
        moments.append(round(stage.clock.wall_now - 1_700_000_000))
        assert stage.cache.get() is first
        assert stage.cache.status().zone == "fresh"
        assert stage.cache.status().consecutive_failures == 0
    assert moments == [1800, 2700, 3150, 3375, 3488, 3544]
    assert stage.cache.status().renewals == 1


def test_same_token_within_its_leeway_is_used_as_long_as_the_source_vouches_for_it() -> None:
    """A source that insists on a token with seconds left is believed, until it has none."""
    stage = Stage(lambda attempt: token("one", 1_700_003_600 - attempt.sent_at))
    first = stage.cache.get()
    stage.clock.mono_now += 3580
    stage.clock.wall_now += 3580
    assert stage.cache.get() is first
    stage.clock.mono_now += 19.5
    stage.clock.wall_now += 19.5
    with pytest.raises(TokenUnavailableError, match="expired when it arrived"):
        stage.cache.get()


def test_same_short_lived_token_is_not_asked_for_all_the_time() -> None:
    """Tokens of a few seconds have pauses in proportion."""
    stage = Stage(lambda attempt: token("one", 1_700_000_008 - attempt.sent_at))
    for _ in range(70):
        stage.cache.get()
        stage.advance(0.1)
    assert len(stage.attempts) <= 4


def test_invalidate_drops_only_the_token_that_was_rejected() -> None:
    """A token that has been replaced meanwhile is not thrown away with the old one."""
    stage = Stage(numbered())
    first = stage.cache.get()
    assert not stage.cache.invalidate("something else")
    assert stage.cache.invalidate(first.secret)
    assert not stage.cache.invalidate(first.secret)
    assert stage.cache.peek() is None
    second = stage.cache.get()
    assert second.number == 2
    assert not stage.cache.invalidate(first.secret)
    assert stage.cache.get() is second
    stage.cache.accepted(second)
    assert stage.cache.invalidate(second.secret.get_secret_value())


def test_a_new_token_that_is_rejected_too_is_kept_for_longer_and_longer() -> None:
    """A resource that rejects every token costs one at once, and then fewer and fewer."""
    stage = Stage(numbered())
    dropped = []
    for second in range(1400):
        if stage.cache.invalidate(stage.cache.get().secret):
            dropped.append(second)
        stage.advance(1)
    assert dropped == [0, 30, 90, 210, 450, 750, 1050, 1350]


def test_a_token_that_was_accepted_is_replaced_at_once() -> None:
    """Only a newer token counts: an answer to the rejected one, or an older one, may come late."""
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.cache.accepted(first)
    assert stage.cache.invalidate(first.secret)
    second = stage.cache.get()
    stage.cache.accepted(first)
    assert not stage.cache.invalidate(second.secret)
    stage.cache.accepted(second)
    assert stage.cache.invalidate(second.secret)
    third = stage.cache.get()
    assert not stage.cache.invalidate(third.secret)
    stage.advance(30)
    assert stage.cache.invalidate(third.secret), "the pauses begin again with the shortest"


def test_what_one_resource_rejects_another_may_replace() -> None:
    """One that accepts every token neither shortens nor starts the pauses of one that rejects all."""
    stage = Stage(numbered())
    for _ in range(20):
        token = stage.cache.get()
        stage.cache.accepted(token, by="good")
        stage.cache.invalidate(token.secret, by="bad")
    assert len(stage.attempts) == 2
    assert stage.cache.invalidate(stage.cache.get().secret, by="good")
    assert stage.cache.get().number == 3


def test_rejected_together_share_one_renewal() -> None:
    """Everybody whose token was rejected joins the same request."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.calls[0].answer(token("one"))
    rejected = caller.result(5)
    callers = []
    for _ in range(4):
        stage.cache.invalidate(rejected.secret)
        callers.append(stage.in_thread(stage.cache.get))
    assert len(stage.calls) == 2
    stage.calls[1].answer(token("two"))
    assert {caller.result(5).number for caller in callers} == {2}


def test_source_that_gives_back_the_rejected_token_makes_no_loop() -> None:
    """The returned token is used, and asked about again after pauses that grow."""
    stage = Stage(lambda attempt: token("one", 1_700_036_000 - attempt.sent_at))
    first = stage.cache.get()
    assert stage.cache.invalidate(first.secret)
    assert stage.cache.get() is first
    for _ in range(600):
        stage.cache.invalidate(first.secret)
        assert stage.cache.get() is first
        stage.advance(1)
    assert len(stage.attempts) <= 2 + 8
    stage.reply = numbered()
    stage.advance(300)
    assert secret_of(stage.cache) == "token-1"


async def test_cancelled_caller_leaves_alone() -> None:
    """Cancelling whoever started the renewal does not stop it for the rest."""
    stage = Stage()
    tasks = [asyncio.create_task(stage.cache.aget()) for _ in range(3)]
    await asyncio.sleep(0)
    assert stage.cache.status().waiting == 3
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    assert tasks[0].cancelled()
    assert stage.cache.status().waiting == 2
    stage.calls[0].answer(token("one"))
    assert await tasks[1] is await tasks[2]
    assert len(stage.calls) == 1


def test_wall_clock_that_steps_forward_ends_the_token() -> None:
    """A token is dead when the wall clock says so, whatever the other one says."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.clock.step_wall(3600)
    assert stage.cache.peek() is None
    assert secret_of(stage.cache) == "token-2"


def test_wall_clock_that_steps_back_does_not_revive_the_token() -> None:
    """A token is dead when the monotonic clock says so, however young the wall clock makes it."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.advance(3000)
    stage.clock.step_wall(-3600)
    stage.clock.mono_now += 600
    assert stage.cache.status().remaining == pytest.approx(3600 - 1800)
    stage.clock.mono_now += 1790
    assert stage.cache.peek() is None


def test_suspended_machine_does_not_serve_a_dead_token() -> None:
    """After a suspend both clocks have moved and the timers are late: readers notice."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.clock.mono_now += 7200
    stage.clock.wall_now += 7200
    assert secret_of(stage.cache) == "token-2"


def test_lifetime_counts_from_sending() -> None:
    """A request that takes its time uses up the token's."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.advance(10)
    stage.calls[0].answer(token("one", 100))
    held = caller.result(5)
    assert held.expires_on == held.acquired_on + 100
    assert held.lifetime == 100
    assert stage.cache.status().remaining == 90


def test_short_token_after_a_long_journey_is_not_due_at_once() -> None:
    """A token that arrives past its half-life is used a little before the next request."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.advance(8)
    stage.calls[0].answer(token("one", 10))
    caller.result(5)
    assert stage.cache.status().zone == "fresh"
    stage.cache.get()
    assert len(stage.calls) == 1
    assert stage.cache.status().next_attempt == pytest.approx(0.5)


def test_caller_who_is_overtaken_looks_again() -> None:
    """A renewal that ends between a caller's look and its turn is not made a second time."""

    class Overtaking(FakeClock):
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            if self.looks == 2:  # the first caller has seen that there is no token
                stage.cache.get()
            return super().monotonic()

    stage = Stage(numbered())
    stage.clock = Overtaking()
    stage.cache = TokenCache(stage, clock=stage.clock, launch=stage.launch)
    assert stage.cache.get().number == 1
    assert len(stage.attempts) == 1
    assert stage.clock.looks > 2


def test_derived_value_is_made_once_a_token() -> None:
    """What is worked out from the token is kept with it, and is as current as the token."""
    made: list[int] = []

    def header(held: Token) -> str:
        made.append(held.number)
        return f"Bearer {held.secret.get_secret_value()}"

    stage = Stage(numbered())
    derived = stage.cache.view(header)
    assert [derived.get() for _ in range(3)] == ["Bearer token-1"] * 3
    assert asyncio.run(derived.aget()) == "Bearer token-1"
    stage.advance(1801)
    assert asyncio.run(derived.aget()) == derived.get() == "Bearer token-2"
    assert made == [1, 2]
    stage.cache.invalidate("token-2")
    assert derived.get() == "Bearer token-3"


def readers(stage: Stage) -> dict[str, Callable[[], str]]:
    """Return every way to read a token; each returns the token that a request would carry."""
    cache = stage.cache
    config = AzureEntraIdConfiguration(environ={}, azure_cli=True)
    identity = Identity(config, cache)
    derived = cache.view(lambda held: held.secret.get_secret_value())

    def of_header(value: tuple[Token, str]) -> str:
        token_, header = value
        text = token_.secret.get_secret_value()
        assert json.loads(header)["azure_api_key"] == text
        return text

    async def aheader() -> tuple[Token, str]:
        return await identity.aheader("https://x.openai.azure.com")

    return {
        "get": lambda: secret_of(cache),
        "aget": lambda: str(asyncio.run(cache.aget()).secret.get_secret_value()),
        "derived.get": derived.get,
        "derived.aget": lambda: asyncio.run(derived.aget()),
        "header": lambda: of_header(identity.header("https://x.openai.azure.com")),
        "aheader": lambda: of_header(asyncio.run(aheader())),
    }


READERS = ["get", "aget", "derived.get", "derived.aget", "header", "aheader"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_no_reader_gives_an_expired_token(reader: str, clock: str) -> None:
    """While Entra ID is down, the end of the token by either clock is an error, never the token."""
    stage = Stage(lambda _attempt: token("good"))
    read = readers(stage)[reader]
    assert [read() for _ in range(3)] == ["good"] * 3
    stage.reply = lambda _attempt: outage()
    step = 3600 - 30 - 0.1
    if clock == "wall":
        stage.clock.step_wall(step)
    else:
        stage.clock.mono_now += step
    assert read() == "good"  # stale, and good until its leeway of 30 s begins
    stage.clock.wall_now += 0.2 if clock == "wall" else 0
    stage.clock.mono_now += 0.2 if clock == "mono" else 0
    with pytest.raises(TokenUnavailableError) as caught:
        read()
    assert str(caught.value) == "Entra ID answers 503"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_every_reader_starts_the_renewal_when_it_is_due(reader: str, clock: str) -> None:
    """A reader that finds a stale token by either clock has it renewed, and a fresh one does not."""
    stage = Stage(numbered())
    read = readers(stage)[reader]
    assert read() == "token-1"
    move = {"wall": stage.clock.step_wall, "mono": stage.clock_forward}[clock]
    move(1799)
    assert read() == "token-1"
    assert len(stage.attempts) == 1
    move(2)
    assert read() == "token-1"  # served while the renewal runs behind
    assert len(stage.attempts) == 2
    assert read() == "token-2"


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_gives_a_rejected_token(reader: str) -> None:
    """A token that Azure has rejected is gone for everybody at once."""
    stage = Stage(numbered())
    read = readers(stage)[reader]
    assert [read(), read()] == ["token-1"] * 2
    assert stage.cache.invalidate("token-1")
    assert read() == "token-2"


def test_system_clock_counts_the_time_of_a_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended machine's CLOCK_MONOTONIC stands still; CLOCK_BOOTTIME goes on, as tokens age."""
    machine = SimpleNamespace(
        CLOCK_BOOTTIME=7,
        clock_gettime={7: 8 * 3600.0}.__getitem__,
        monotonic=lambda: 5.0,
        time=lambda: 1.7e9,
    )
    monkeypatch.setattr("lightspeed_azure.concurrency.clock.time", machine)
    clock = SystemClock()
    assert (clock.wall(), clock.monotonic()) == (1.7e9, 8 * 3600.0)


def test_system_clock_without_boottime(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS and Windows have no CLOCK_BOOTTIME; there `time.monotonic` is the best there is."""
    machine = SimpleNamespace(monotonic=lambda: 5.0, time=lambda: 1.7e9)
    monkeypatch.setattr("lightspeed_azure.concurrency.clock.time", machine)
    clock = SystemClock()
    assert (clock.wall(), clock.monotonic()) == (1.7e9, 5.0)


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_derived_value_ends_with_its_token(clock: str) -> None:
    """Neither clock lets a derived value outlive the token, and reading it counts as use."""
    stage = Stage(numbered())
    derived = stage.cache.view(lambda held: held.number)
    assert derived.get() == 1
    stage.advance(1801)
    assert derived.get() == 2
    stage.advance(1801)
    assert len(stage.attempts) == 3
    assert derived.get() == 3
    if clock == "wall":
        stage.clock.step_wall(3600)
    else:
        stage.clock.mono_now += 3600
    assert derived.get() == 4


@pytest.mark.parametrize("expires_in", [0.0, -5.0, math.nan, -math.inf])
def test_token_that_arrives_expired_is_a_failure(expires_in: float) -> None:
    """A dead token is never given out, and the next attempt waits for the back-off."""
    stage = Stage(lambda _attempt: token("dead", expires_in))
    for _ in range(2):
        with pytest.raises(TokenUnavailableError, match="expired"):
            stage.cache.get()
    assert len(stage.attempts) == 1


def test_failure_and_dead_or_shorter_answers_keep_a_good_token() -> None:
    """Whatever a renewal brings, a token that is still good is not lost for it."""
    answers: list[Answer] = [token("blink", 2), token("dead", 0), refusal(), outage()]
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.reply = lambda _attempt: answers.pop()
    for _ in range(100):
        stage.advance(30)
        assert stage.cache.get() is first
        if not answers:
            break
    assert answers == []


def test_shorter_token_with_time_to_spare_is_taken() -> None:
    """Where the issuer has shortened lifetimes the new token is used."""
    stage = Stage(numbered(86400))
    stage.cache.get()
    stage.reply = lambda _attempt: token("short", 3600)
    assert stage.cache.refresh().secret.get_secret_value() == "short"


def test_min_remaining_waits_for_a_longer_token() -> None:
    """A caller who needs time gets a new token, at most 0.4 of a lifetime ahead."""
    stage = Stage(numbered())
    first = stage.cache.get()
    assert stage.cache.get(min_remaining=1700) is first
    assert stage.cache.get(min_remaining=100_000) is first
    stage.clock.mono_now += 2300
    assert stage.cache.get(min_remaining=1400).number == 2


def test_min_remaining_is_satisfied_with_less_when_the_renewal_fails() -> None:
    """A valid token is better than an error."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.calls[0].answer(token("one"))
    first = caller.result(5)
    stage.clock.mono_now += 2300
    wanting = stage.in_thread(lambda: stage.cache.get(min_remaining=1400))
    assert not wanting.done()
    stage.calls[1].answer(outage(100))
    assert wanting.result(5) is first
    assert stage.cache.get(min_remaining=1400) is first
    assert len(stage.calls) == 2


def test_min_remaining_does_not_press_a_source_that_has_nothing_better() -> None:
    """A source that insists on its token is left alone until the next try."""
    stage = Stage(lambda attempt: token("one", 1_700_003_600 - attempt.sent_at))
    stage.cache.get()
    stage.clock.mono_now += 3000
    stage.clock.wall_now += 3000
    for _ in range(10):
        stage.cache.get(min_remaining=1700)
    assert len(stage.attempts) == 2


def test_refresh_renews_a_fresh_token_and_raises_on_failure() -> None:
    """Who asks for a renewal gets one or an error; the valid token stays."""
    stage = Stage(numbered())
    first = stage.cache.get()
    assert stage.cache.refresh().number == 2
    assert asyncio.run(stage.cache.arefresh()).number == 3
    stage.reply = lambda _attempt: outage(50)
    for _ in range(2):
        with pytest.raises(TokenUnavailableError) as caught:
            stage.cache.refresh()
        assert caught.value.retry_after == 50
    assert len(stage.attempts) == 4
    assert stage.cache.get().number == 3
    assert first.number == 1


def test_unexpected_exception_is_named_and_nothing_of_it_shown() -> None:
    """A source's bug becomes a passing failure without the message, cause or frames."""
    stage = Stage(lambda _attempt: ValueError("client_secret=hunter2"))
    with pytest.raises(TokenUnavailableError, match="ValueError") as caught:
        stage.cache.get()
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_source_that_ends_its_thread_lets_its_waiters_go() -> None:
    """Even `SystemExit` from a source is an answer: nobody waits for the deadline."""
    stage = Stage()
    caller = stage.in_thread(stage.cache.get)
    stage.calls[0].answer(SystemExit(3))
    error = caller.exception(5)
    assert isinstance(error, TokenUnavailableError)
    assert "SystemExit" in str(error)


def test_source_that_hands_over_something_else_is_a_failure() -> None:
    """None, or an empty text, is no token."""
    stage = Stage(lambda _attempt: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TokenUnavailableError, match="AttributeError"):
        stage.cache.get()
    with pytest.raises(TokenUnavailableError, match="empty"):
        Stage(lambda _attempt: token("")).cache.get()


def test_thread_that_cannot_be_started_is_a_failure() -> None:
    """A process at its limit gets an error, and tries again later."""

    def launch(_name: str, _run: object) -> None:
        raise RuntimeError("can't start new thread")

    stage = Stage(numbered(), launch=launch)
    with pytest.raises(TokenUnavailableError, match="could not be started"):
        stage.cache.get()
    assert stage.cache.status().consecutive_failures == 1


def test_entries_do_not_hold_up_each_other() -> None:
    """One identity that hangs leaves another alone."""
    blocked, other = Stage(), Stage(numbered())
    waiting = blocked.in_thread(blocked.cache.get)
    assert secret_of(other.cache) == "token-1"
    assert not waiting.done()
    blocked.calls[0].answer(token("one"))


def test_closed_cache_serves_its_token_to_the_end_and_starts_nothing() -> None:
    """After `close` a valid token is served; then there is an error, and no request."""
    stage = Stage(numbered())
    first = stage.cache.get()
    stage.cache.close()
    assert stage.scheduler.pending == []
    stage.advance(2000)
    assert stage.cache.get() is first
    stage.advance(1600)
    with pytest.raises(TokenUnavailableError, match="closed"):
        stage.cache.get()
    assert len(stage.attempts) == 1


def test_timer_does_not_keep_a_forgotten_cache_alive() -> None:
    """A cache that nobody holds any more is collected, and its timer does nothing."""
    stage = Stage(numbered())
    stage.cache.get()
    scheduler, gone = stage.scheduler, weakref.ref(stage.cache)
    del stage
    gc.collect()
    assert gone() is None
    scheduler.advance(2000)


def test_status_tells_what_is() -> None:
    """The snapshot holds what people ask about, and no secret."""
    stage = Stage(numbered(), name="tenant/client")
    stage.cache.get()
    stage.reply = lambda _attempt: outage(20)
    stage.advance(1800)
    status = stage.cache.status()
    assert status.name == "tenant/client"
    assert (status.zone, status.renewals, status.failures) == ("stale", 1, 1)
    assert (status.last_error, status.last_error_text) == (
        "TokenUnavailableError",
        "Entra ID answers 503",
    )
    assert (status.consecutive_failures, status.next_attempt) == (1, 20)
    assert (status.acquired_on, status.expires_on) == (1_700_000_000, 1_700_003_600)
    assert (status.remaining, status.last_success) == (1800, 1_700_000_000)
    assert (status.waiting, status.refreshing) == (0, False)
    assert "token-1" not in repr(status)


def test_secret_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a repr nor a log line holds the token."""
    caplog.set_level(logging.DEBUG)
    stage = Stage(lambda _attempt: token("top-secret"))
    held = stage.cache.get()
    stage.cache.invalidate(held.secret)
    stage.cache.get()
    assert "top-secret" not in repr(held) + str(held) + caplog.text
    assert caplog.records


def test_one_line_a_renewal_and_one_a_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    """The log is quiet: a line for what happened, none for a request or a repeated failure."""
    caplog.set_level(logging.DEBUG, "lightspeed_azure.tokens")
    stage = Stage(numbered())
    stage.chance = 0.5
    for _ in range(50):
        stage.cache.get()
    stage.reply = lambda _attempt: outage()
    for _ in range(3550):
        stage.advance(1)
        stage.cache.get()
    stage.reply = numbered()
    stage.advance(19)
    stage.cache.get()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR", "INFO"]
    assert "after failures" in caplog.messages[-1]
    assert {record.name for record in caplog.records} == {"lightspeed_azure.tokens"}


def test_failing_without_a_token_is_an_error_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """With nothing to serve the first failure is logged as an error, and only the first."""
    stage = Stage(lambda _attempt: outage())
    for _ in range(5):
        with pytest.raises(TokenUnavailableError):
            stage.cache.get()
        stage.clock.mono_now += 100
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_background_attempts_stop_when_nobody_asks() -> None:
    """An outage does not make an idle service knock for ever."""
    stage = Stage(lambda _attempt: outage())
    with pytest.raises(TokenUnavailableError):
        stage.cache.get()
    stage.advance(100_000)
    assert len(stage.attempts) == 2
    assert stage.scheduler.pending == []


def test_token_is_frozen() -> None:
    """What has been handed out cannot be changed."""
    held = Stage(numbered()).cache.get()
    with pytest.raises(AttributeError):
        held.number = 7  # type: ignore[misc]


async def test_token_that_dies_before_its_waiter_wakes_is_not_given_out() -> None:
    """A waiter that gets its turn late asks again rather than take a dead token."""
    stage = Stage()
    task = asyncio.create_task(stage.cache.aget())
    await asyncio.sleep(0)
    stage.calls[0].answer(token("blink", 1))
    stage.clock.mono_now += 2
    for _ in range(3):  # turns of the loop: it wakes, looks, and asks
        await asyncio.sleep(0)
    stage.calls[1].answer(token("two"))
    assert (await task).secret.get_secret_value() == "two"


def test_issued_token_type_is_the_contract() -> None:
    """The fakes speak the source's language."""
    assert isinstance(token("x"), IssuedToken)


def test_only_callers_that_had_to_wait_are_counted() -> None:
    """`waits` grows by those who found no usable token, not by readers nor by who asks for a renewal."""
    stage = Stage()
    waiting = [stage.in_thread(stage.cache.get) for _ in range(3)]
    assert stage.cache.status().waits == 3
    stage.calls[0].answer(token("one"))
    for caller in waiting:
        caller.result(5)
    stage.cache.get()
    renewing = stage.in_thread(stage.cache.refresh)
    stage.calls[1].answer(token("two"))
    renewing.result(5)
    assert stage.cache.status().waits == 3
