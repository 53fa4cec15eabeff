"""A snapshot of a resolver for people, metrics and `check`; it holds no key."""

from dataclasses import dataclass

from lightspeed_azure.keys.breaker import BreakerState
from lightspeed_azure.keys.fault import RESTING, Fault
from lightspeed_azure.keys.question import Answer, Pass
from lightspeed_azure.keys.reply import Reply


@dataclass(frozen=True, slots=True)
class ResolverStatus:
    """What became of the questions to one resolver.

    Attributes:
        name: the resolver's name.
        source: "run time", "configuration" or "entry point".
        order: its place among the others.
        answers: how often it answered, from what was kept or not.
        passes: how often it passed, or asked on with other arguments.
        cached: how many of these needed no asking.
        stale: how many answers stood in for a failure.
        failures: how often it gave nothing that can be used.
        rested: how often it was not asked, because it had failed before.
        breaker: "closed" when it is asked, "open" while it rests, "half_open" while it is tried.
        last_error: the last failure's kind, such as "timeout"; "" when it answered since.
        last_error_text: the same in words.
        last_pass: where it looked when it passed last; "" when it did not say, or has answered since.
        kept: how many answers are kept.
        oldest_kept: seconds since the oldest of them was asked for; None without one.
        hanging: threads and event loops of its that did not come back.
    """

    name: str
    source: str
    order: int
    answers: int
    passes: int
    cached: int
    stale: int
    failures: int
    rested: int
    breaker: BreakerState
    last_error: str
    last_error_text: str
    last_pass: str
    kept: int
    oldest_kept: float | None
    hanging: int


@dataclass(slots=True)
class Counts:
    """The counters behind a snapshot; changed under their owner's lock."""

    answers: int = 0
    passes: int = 0
    cached: int = 0
    stale: int = 0
    failures: int = 0
    rested: int = 0
    last: Fault | None = None
    last_pass: str = ""

    def said(self, reply: Reply) -> None:
        """Count what a caller got."""
        if isinstance(reply, Fault):
            self.rested += reply is RESTING
        elif isinstance(reply, Answer):
            self.answers += 1
            self.last_pass = ""
        else:
            self.passes += 1
            self.last_pass = reply.why if isinstance(reply, Pass) else ""

    def settled(self, reply: Reply) -> bool:
        """Count what became of one asking; return whether its state changed by it."""
        before = self.last
        if isinstance(reply, Fault):
            self.failures += 1
            self.last = reply
            return before is None or before.reason != reply.reason
        self.last = None
        return before is not None
