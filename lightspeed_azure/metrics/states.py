"""What the states of tokens and keys come to in numbers; knows no Prometheus."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lightspeed_azure.tokens.manager import AzureEntraIDManager


class Credential(Protocol):
    """The state of one source of keys, as the sources of other providers' keys tell it."""

    @property
    def provider_id(self) -> str | None:
        """Whose it is, or None for all of a type."""

    @property
    def provider_type(self) -> str | None:
        """Likewise, or None."""

    @property
    def field(self) -> str | None:
        """What it fills, or None for the provider's key."""

    @property
    def source(self) -> str:
        """The kind of source."""

    @property
    def has_value(self) -> bool:
        """Whether there is a value to send."""

    @property
    def fault(self) -> str:
        """What is wrong with the source now, or ""."""

    @property
    def reloads(self) -> int:
        """How often it gave another value than before."""

    @property
    def failures(self) -> int:
        """How often it had no new value when asked."""

    @property
    def age(self) -> float | None:
        """Seconds since its value was last known to be current; None when it never was."""


class Resolver(Protocol):
    """The state of one resolver of keys."""

    @property
    def name(self) -> str:
        """Which one."""

    @property
    def answers(self) -> int:
        """How often it answered."""

    @property
    def failures(self) -> int:
        """How often it gave nothing that can be used."""

    @property
    def breaker(self) -> str:
        """`closed` when it is asked, `open` while it rests, `half_open` while it is tried."""


class InboundState(Protocol):
    """The state of inbound authentication."""

    @property
    def kind(self) -> str:
        """How callers show who they are."""

    @property
    def ready(self) -> bool:
        """Whether a good caller would be let in now."""

    @property
    def keys(self) -> int:
        """How many keys are known."""

    @property
    def reloads(self) -> int:
        """How often they were read and had changed."""

    @property
    def failures(self) -> int:
        """How often reading them failed."""


@dataclass(slots=True)
class Family:
    """The samples of one metric; a second sample with the same labels adds up.

    Attributes:
        name: without the common prefix; counters without `_total`.
        text: what it says, for people.
        labels: the names of the labels.
        is_counter: whether it only ever grows.
        samples: a number for the values of the labels.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    is_counter: bool = False
    samples: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, *values: str, number: float) -> None:
        """Add a sample."""
        self.samples[values] = self.samples.get(values, 0.0) + number


def of_tokens(manager: AzureEntraIDManager) -> Iterator[Family]:
    """Yield the state of every identity's token."""
    one = ("identity",)
    expiry = Family("token_expiry_timestamp_seconds", "POSIX time at which the token expires", one)
    usable = Family("token_usable", "1 while there is a token that has not expired", one)
    streak = Family("token_consecutive_failures", "Renewals failed since the last good one", one)
    results = (*one, "result")
    renewals = Family("token_renewals", "Renewals of the token", results, is_counter=True)
    waits = Family("token_waits", "Callers that had to wait for the token", one, is_counter=True)
    for identity in manager.identities:
        status = identity.status()
        name = identity.provider_id or status.name
        if status.expires_on is not None:
            expiry.add(name, number=status.expires_on)
        usable.add(name, number=status.zone in ("fresh", "stale"))
        streak.add(name, number=status.consecutive_failures)
        renewals.add(name, "success", number=status.renewals)
        renewals.add(name, "failure", number=status.failures)
        waits.add(name, number=status.waits)
    yield from (expiry, usable, streak, renewals, waits)


def of_credentials(states: Iterable[Credential]) -> Iterator[Family]:
    """Yield the state of the keys of other providers."""
    labels = ("credential", "source")
    usable = Family("credential_usable", "1 while there is a value to send", labels)
    age = Family("credential_age_seconds", "Time since the value was last known current", labels)
    results = (*labels, "result")
    text = "Changed values read, and reads that failed"
    reloads = Family("credential_reloads", text, results, is_counter=True)
    for state in states:
        owner = state.provider_id or state.provider_type or "any"
        values = (f"{owner}.{state.field}" if state.field else owner, state.source)
        usable.add(*values, number=state.has_value)
        if state.age is not None:
            age.add(*values, number=state.age)
        reloads.add(*values, "success", number=state.reloads)
        reloads.add(*values, "failure", number=state.failures)
    yield from (usable, age, reloads)


def of_resolvers(states: Iterable[Resolver]) -> Iterator[Family]:
    """Yield the state of the resolvers of keys."""
    state = Family("resolver_state", "1 for the state that it is in", ("resolver", "state"))
    text = "Answers and failures of the resolver"
    replies = Family("resolver_replies", text, ("resolver", "result"), is_counter=True)
    for each in states:
        for name in ("closed", "open", "half_open"):
            state.add(each.name, name, number=each.breaker == name)
        replies.add(each.name, "answer", number=each.answers)
        replies.add(each.name, "failure", number=each.failures)
    yield from (state, replies)


def of_inbound(state: InboundState) -> Iterator[Family]:
    """Yield the state of the keys by which callers are let in."""
    kind = ("kind",)
    ready = Family("inbound_ready", "1 while a good caller would be let in", kind)
    ready.add(state.kind, number=state.ready)
    keys = Family("inbound_keys", "Keys that are known", kind)
    keys.add(state.kind, number=state.keys)
    text = "Changed keys read, and reads that failed"
    reloads = Family("inbound_key_reloads", text, (*kind, "result"), is_counter=True)
    reloads.add(state.kind, "success", number=state.reloads)
    reloads.add(state.kind, "failure", number=state.failures)
    yield from (ready, keys, reloads)
