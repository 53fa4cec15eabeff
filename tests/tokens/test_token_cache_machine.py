"""The token cache under every order of events that hypothesis can think of.

Callers on threads and in two event loops come and are cancelled, clocks run and step, requests are
answered well, badly, late or never, the process forks. After each step everything has come to rest;
then the invariants are looked at.
"""

import asyncio
import os
import time
from concurrent.futures import Future

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from token_cache_fakes import Answer, Call, FakeClock, Stage, outage, refusal, token

from lightspeed_azure.errors import TokenError
from lightspeed_azure.tokens.lifetime import FIRST_WRITE_OFF, LONGEST_WRITE_OFF, Token

DEADLINE = 15.0
FAILURES = ("dead", "passing", "retry-after", "permanent", "crash")


class Caller:
    """Somebody who has asked and is not answered yet."""

    def __init__(self, since: float, outcome: "Future[Token] | asyncio.Task[Token]") -> None:
        self.since = since
        self.outcome = outcome


class TokenCacheMachine(RuleBasedStateMachine):
    """One cache, its callers and its source."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(deadline=DEADLINE)
        self.stage.chance = 0.5
        self.cache = self.stage.cache
        self.derived = self.cache.view(lambda held: held)
        self.loops = [asyncio.new_event_loop() for _ in range(2)]
        self.callers: list[Caller] = []
        self.open: list[Call] = []  # requests of this process that nobody has answered
        self.parents: list[Call] = []  # requests of the process that this one was forked from
        self.overtaken: set[Call] = set()  # requests whose waiters a late answer has served
        self.ends: dict[str, float] = {}  # by the issuer's time, which is the monotonic one
        self.objects: dict[int, Token] = {}
        self.seen_calls = 0
        self.failures = 0
        self.rest_until = 0.0
        self.issued = 0

    @property
    def now(self) -> float:
        """The issuer's time."""
        return self.stage.clock.mono_now

    @initialize(had=st.booleans())
    def begin(self, had: bool) -> None:  # hypothesis passes it by name
        """Begin with a token or without."""
        if had:
            self.get(0.0)
            call = self.open.pop()
            call.answer(self.answer_of("new", call))
            self.settle()

    # What callers do.

    @rule(need=st.sampled_from([0.0, 0.0, 100.0, 5000.0]))
    def get(self, need: float) -> None:
        """A thread asks for a token."""
        outcome = self.stage.in_thread(lambda: self.judged(self.cache.get(min_remaining=need)))
        self.callers.append(Caller(self.now, outcome))
        self.settle()

    @rule(need=st.sampled_from([0.0, 0.0, 100.0]), loop=st.sampled_from([0, 1]))
    def aget(self, need: float, loop: int) -> None:
        """A coroutine asks for a token."""

        async def ask() -> Token:
            return self.judged(await self.cache.aget(min_remaining=need))

        self.callers.append(Caller(self.now, self.loops[loop].create_task(ask())))
        self.settle()

    @rule()
    def get_derived(self) -> None:
        """A thread asks for what is derived from the token."""
        outcome = self.stage.in_thread(lambda: self.judged(self.derived.get()))
        self.callers.append(Caller(self.now, outcome))
        self.settle()

    @rule(loop=st.sampled_from([0, 1]))
    def aget_derived(self, loop: int) -> None:
        """A coroutine asks for what is derived from the token."""

        async def ask() -> Token:
            return self.judged(await self.derived.aget())

        self.callers.append(Caller(self.now, self.loops[loop].create_task(ask())))
        self.settle()

    @rule()
    def refresh(self) -> None:
        """A thread asks for a renewal."""
        outcome = self.stage.in_thread(lambda: self.judged(self.cache.refresh()))
        self.callers.append(Caller(self.now, outcome))
        self.settle()

    @rule(loop=st.sampled_from([0, 1]))
    def arefresh(self, loop: int) -> None:
        """A coroutine asks for a renewal."""

        async def ask() -> Token:
            return self.judged(await self.cache.arefresh())

        self.callers.append(Caller(self.now, self.loops[loop].create_task(ask())))
        self.settle()

    @precondition(lambda self: any(isinstance(c.outcome, asyncio.Task) for c in self.callers))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A coroutine is cancelled while it waits; everybody else goes on waiting."""
        tasks = [c for c in self.callers if isinstance(c.outcome, asyncio.Task)]
        caller = data.draw(st.sampled_from(tasks))
        others = len(self.callers) - 1
        caller.outcome.cancel()
        self.settle()
        assert caller.outcome.cancelled()
        assert len(self.callers) == others

    @rule()
    def renew_if_due(self) -> None:
        """Somebody reminds the cache."""
        self.cache.renew_if_due()
        self.settle()

    @rule(data=st.data())
    def invalidate(self, data: st.DataObject) -> None:
        """Azure rejects a token, the current one or an older one."""
        secret = data.draw(st.sampled_from([*self.ends, "unknown"]))
        held = self.cache.peek()
        dropped = self.cache.invalidate(secret)
        if held is not None:
            same = held.secret.get_secret_value() == secret
            assert same or not dropped
            assert self.cache.peek() is (None if dropped else held)
        self.settle()

    # What the world does.

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 14.9, 15.0, 31.0, 400.0, 1801.0, 3600.0]))
    def advance(self, seconds: float) -> None:
        """Time passes, and each timer is on time."""
        end = self.now + seconds
        while self.now < end:
            step = self.stage.scheduler.to_next(end - self.now)
            self.stage.advance(step or 1e-6)
            self.settle()

    @precondition(lambda self: not self.callers)
    @rule(seconds=st.sampled_from([20.0, 2000.0, 7200.0]))
    def suspend(self, seconds: float) -> None:
        """The machine sleeps: time passes, and the timers are late."""
        self.stage.clock.mono_now += seconds
        self.stage.clock.wall_now += seconds
        self.advance(0.3)

    @rule(seconds=st.sampled_from([-7200.0, -1.0, 0.5, 40.0, 7200.0]))
    def step_wall(self, seconds: float) -> None:
        """Somebody sets the clock on the wall."""
        self.stage.clock.step_wall(seconds)
        self.settle()

    @rule()
    def rotate(self) -> None:
        """The credential's files change."""
        self.stage.version = object()
        self.settle()

    @precondition(lambda self: not self.callers)
    @rule()
    def fork(self) -> None:
        """This process becomes the child of a fork."""
        held = self.cache.peek()
        self.cache.after_fork()
        assert self.cache.peek() is held
        assert not self.cache.status().refreshing
        self.parents += self.open
        self.open = []
        self.settle()

    @precondition(lambda self: self.parents)
    @rule()
    def answer_the_parent(self) -> None:
        """A request from before the fork comes back; it is nothing to the child."""
        before = self.cache.status()
        self.parents.pop().answer(token("the parent's"))
        assert self.cache.status() == before

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        kind=st.sampled_from(
            ["new", "new", "short", "blink", "soon", "same", "older", "same", *FAILURES]
        ),
    )
    def answer(self, data: st.DataObject, kind: str) -> None:
        """A request, in time or long abandoned, is answered."""
        call = data.draw(st.sampled_from(self.open))
        before = self.cache.peek()
        live = self.cache.status().refreshing and call is self.open[-1]
        self.open.remove(call)
        call.answer(self.answer_of(kind, call))
        if not live and self.open and not self.cache.status().refreshing:
            self.overtaken.add(self.open[-1])
        after = self.cache.peek()
        if before is not None:
            assert after is not None, "whatever came, a good token was lost for it"
            assert kind not in FAILURES or after is before
        self.settle()

    def answer_of(self, kind: str, call: Call) -> Answer:
        """Return what the source says."""
        if kind in FAILURES:
            failure: dict[str, Answer] = {
                "dead": token("dead", 0.0),
                "passing": outage(),
                "retry-after": outage(20),
                "permanent": refusal(),
                "crash": ValueError("client_secret"),
            }
            return failure[kind]
        if kind in ("same", "older") and self.ends:
            text = list(self.ends)[-1 if kind == "same" else 0]
            return token(text, self.ends[text] - call.sent)
        life = {"short": 100.0, "blink": 5.0}.get(kind, 3600.0)
        self.issued += 1
        text = f"token-{self.issued}"
        self.ends[text] = call.sent + life
        return token(text, life, 600.0 if kind == "soon" else None)

    # What must hold.

    def judged(self, got: Token) -> Token:
        """Return a token that a caller got, after making sure that it is alive."""
        assert self.now < self.ends[got.secret.get_secret_value()], "dead by the issuer's time"
        assert self.stage.clock.wall_now < got.expires_on, "dead by the wall clock"
        return got

    def settle(self) -> None:
        """Let threads and loops do what they can; then look at who is left and what began."""
        patience = time.monotonic() + 20
        while True:
            for loop in self.loops:
                loop.run_until_complete(turns())
            waiting = [caller for caller in self.callers if not caller.outcome.done()]
            if self.cache.status().waiting == len(waiting):
                break
            assert time.monotonic() < patience, "somebody waits for nothing: forgotten"
            os.sched_yield()
        for caller in self.callers:
            if caller.outcome.done() and not caller.outcome.cancelled():
                error = caller.outcome.exception()
                assert error is None or isinstance(error, TokenError), repr(error)
        self.callers = waiting
        self.look_at_requests()

    def look_at_requests(self) -> None:
        """No request in a pause, and the pause after a failure is what it says it is."""
        began = self.stage.calls[self.seen_calls :]
        assert len(began) <= 1, "two requests at once"
        status = self.cache.status()
        for call in began:
            mended = status.last_error == "CredentialRejectedError"
            assert call.sent >= self.rest_until - 1e-6 or mended, "a request during the back-off"
            self.open.append(call)
        self.seen_calls = len(self.stage.calls)
        if status.failures > self.failures and status.zone != "fresh":
            assert status.next_attempt is not None
            self.rest_until = self.now + status.next_attempt
        if status.consecutive_failures == 0:
            self.rest_until = 0.0
        self.failures = status.failures

    @invariant()
    def one_live_request(self) -> None:
        """One live request at most, and two abandoned ones of those that are not written off."""
        counted = [c for c in self.open if c.sent > self.now - FIRST_WRITE_OFF]
        assert len(counted) <= 2 + self.cache.status().refreshing
        # Two hang at a time; each is written off after a minute at first, after an hour at the end.
        most = 8 + 2 * (self.now - FakeClock().mono_now) / LONGEST_WRITE_OFF
        assert len(self.open) <= most, "requests that hang are started too often"
        young = [c for c in self.open if c.sent > self.now - DEADLINE and c not in self.overtaken]
        assert len(young) <= 1

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """Each caller waits for a request under way, within the deadline."""
        if self.callers:
            assert self.cache.status().refreshing
        for caller in self.callers:
            # Twice, because a token that dies on its way is asked for again, and that second wait
            # is cut short by real time, which stands still here.
            assert self.now - caller.since <= 2 * DEADLINE

    @invariant()
    def token_in_hand_is_alive_and_one_object(self) -> None:
        """What is shown as valid is, and a number stands for one object."""
        held = self.cache.peek()
        if held is not None:
            self.judged(held)
            assert self.objects.setdefault(held.number, held) is held

    def teardown(self) -> None:
        """Let everybody go."""
        for call in self.parents:
            call.answer(outage())
        while self.open:
            self.open.pop().answer(outage())
            self.settle()
        assert self.callers == []
        for loop in self.loops:
            loop.close()


async def turns() -> None:
    """Let a loop do what is ready, and what that makes ready."""
    for _ in range(4):
        await asyncio.sleep(0)


TestTokenCacheMachine = TokenCacheMachine.TestCase
TestTokenCacheMachine.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
