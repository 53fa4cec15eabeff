"""What the proxy says of itself, from memory alone: probes, conditions and `/status`; no secret."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from lightspeed_azure.config.dependents import condition_types
from lightspeed_azure.errors import CredentialRejectedError
from lightspeed_azure.metrics.states import Credential
from lightspeed_azure.proxy.inbound import InboundStatus
from lightspeed_azure.tokens.cache import CacheStatus
from lightspeed_azure.tokens.manager import AzureEntraIDManager

type Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, as Kubernetes writes them.

    https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties

    Attributes:
        type: its name; CamelCase, such as `LLMProxyReady`.
        status: whether it is true.
        reason: why, for programs; CamelCase.
        message: why, and what to do, for people; never a secret.
    """

    type: str
    status: Truth
    reason: str
    message: str


class Conditions:
    """Remembers when the status of each condition last changed. Use it from one thread.

    Args:
        clock: POSIX seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, tuple[Truth, str]] = {}

    def observe(self, conditions: Iterable[Condition]) -> list[dict[str, str]]:
        """Return the conditions for JSON; `lastTransitionTime` changes only with the status."""
        shown = []
        for condition in conditions:
            status, since = self._since.get(condition.type, (None, ""))
            if status != condition.status:
                since = timestamp(self._clock())
                self._since[condition.type] = (condition.status, since)
            shown.append(
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": since,
                }
            )
        return shown


def timestamp(seconds: float) -> str:
    """Return a time in Kubernetes' format: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


type Told = tuple[int, dict[str, Any]]
"""An HTTP status, and the JSON that says why."""


@dataclass(slots=True)
class Probes:
    """The results of the probes. Nothing here waits or sends a request.

    Attributes:
        manager: the identities whose tokens are needed.
        keys: returns the states of other providers' keys.
        draining: no new requests are wanted.
    """

    manager: AzureEntraIDManager
    keys: Callable[[], Iterable[Credential]] = tuple
    draining: bool = field(default=False)

    def live(self) -> Told:
        """Return 200: a process that answers is alive."""
        return 200, {"status": "ok"}

    def started(self) -> Told:
        """Return 200 once the first fetch of each identity's token has succeeded or failed."""
        waiting = [
            each.name for each in self.manager.status() if not each.renewals and not each.failures
        ]
        if waiting:
            return 503, {"status": "starting", "waiting_for": waiting}
        return 200, {"status": "ok"}

    def ready(self) -> Told:
        """Return 200 while there is a usable token or key, or none is needed; 503 when draining.

        A probe starts the refreshes that are due: without requests nothing else does, and without a
        token the proxy would never get a request.
        """
        if self.draining:
            return 503, {"status": "draining"}
        self.manager.renew_if_due()
        keys = tuple(self.keys())
        usable = [each.cache.peek() is not None for each in self.manager.identities]
        usable += [key.has_value for key in keys]
        if not usable:
            return 200, {"status": "ok"}
        failing = [status.name for status in self.manager.status() if status.consecutive_failures]
        failing += [key.provider_id or key.provider_type or "any" for key in keys if key.fault]
        if not any(usable):
            return 503, {"status": "no token", "failing": failing}
        if failing or not all(usable):
            return 200, {"status": "degraded", "failing": failing}
        return 200, {"status": "ok"}


READY = "LLMProxyReady"
KEYS = "APIKeysConfigured"


@dataclass(frozen=True, slots=True)
class StackState:
    """Whether the stack can be reached.

    Attributes:
        reachable: whether the last connection succeeded; None before the first one.
        message: why not, and what to do; without secrets.
    """

    reachable: bool | None = None
    message: str = ""


class Status:
    """The state of tokens, keys, the stack and inbound authentication in one document.

    Use it from one thread. Nothing here waits or sends a request.

    Args:
        manager: the identities.
        inbound: returns the state of inbound authentication; None without it.
        stack: returns the state of the stack.
        stack_url: the URL of the stack, for operators.
        draining: returns whether the proxy is draining.
        credentials: returns the states of other providers' keys.
        dependents: names of services that wait for the proxy, as `proxy.dependents` has them.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        manager: AzureEntraIDManager,
        *,
        inbound: Callable[[], InboundStatus] | None = None,
        stack: Callable[[], StackState] | None = None,
        stack_url: str = "",
        draining: Callable[[], bool] = lambda: False,
        credentials: Callable[[], Iterable[Credential]] = tuple,
        dependents: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._manager = manager
        self._inbound = inbound
        self._stack = stack
        self._stack_url = stack_url
        self._draining = draining
        self._credentials = credentials
        self._waiting = condition_types(dependents)
        self._conditions = Conditions(clock)

    def observe(self) -> list[dict[str, str]]:
        """Return the conditions as they are now, and note what has changed.

        A change gets the time of the call that notices it; `follow` calls often enough.
        """
        credentials = tuple(self._credentials())
        ready = self._ready()
        conditions = [ready, self._keys(credentials)]
        for kind in self._waiting:
            if ready.status == "True":
                conditions.append(Condition(kind, "True", READY, "The LLM proxy is ready"))
            else:
                text = f"Waits for the LLM proxy. {ready.message}"
                conditions.append(Condition(kind, ready.status, "WaitingForLLMProxy", text))
        return self._conditions.observe(conditions)

    async def follow(self, interval: float = 1.0) -> None:
        """Note each change within `interval` seconds, until cancelled."""
        while True:
            self.observe()
            await asyncio.sleep(interval)

    def as_json(self, *, for_operators: bool = False) -> dict[str, Any]:
        """Return the document.

        Args:
            for_operators: whether it may name the URL of the stack.
        """
        conditions = self.observe()
        document: dict[str, Any] = {
            "conditions": conditions,
            "identities": [
                _identity(identity.provider_id, identity.status())
                for identity in self._manager.identities
            ],
            "credentials": [_credential(each) for each in self._credentials()],
        }
        if self._stack is not None:
            document["stack"] = asdict(self._stack())
            if for_operators:
                document["stack"]["url"] = self._stack_url
        if self._inbound is not None:
            document["inbound"] = _checks(self._inbound())
        return document

    def _ready(self) -> Condition:
        """Return whether a request would be answered now, as far as memory knows."""
        status, reason, message = next(self._obstacles(), ("True", "Ready", "Serves requests"))
        return Condition(READY, status, reason, message)

    def _obstacles(self) -> Iterator[tuple[Truth, str, str]]:
        """Yield what prevents or degrades answers, the most severe first."""
        if self._draining():
            yield "False", "Draining", "Ends; requests under way are finished"
        inbound = self._inbound() if self._inbound is not None else None
        if inbound is not None and not inbound.ready:
            yield "False", "InboundKeysUnavailable", inbound.last_error or "No keys yet"
        stack = self._stack() if self._stack is not None else StackState(reachable=True)
        if stack.reachable is False:
            yield "False", "StackUnreachable", stack.message or "The stack does not answer"
        states = [identity.status() for identity in self._manager.identities]
        without = [state for state in states if state.zone not in ("fresh", "stale")]
        failed = [state for state in without if state.consecutive_failures]
        if states and len(without) == len(states):
            if failed:
                yield "False", "TokenUnavailable", _errors(failed)
            yield "Unknown", "WaitingForFirstToken", "No token has been asked for yet"
        if stack.reachable is None:
            yield "Unknown", "WaitingForStack", "The stack has not been asked yet"
        failing = [state for state in states if state.consecutive_failures]
        if failing:
            yield "True", "Degraded", _errors(failing)

    def _keys(self, credentials: Sequence[Credential]) -> Condition:
        """Return whether there is something to sign in with for every provider."""
        states = [identity.status() for identity in self._manager.identities]
        if not states and not credentials:
            text = "No provider has a key; add azure_entra_id or provider_credentials"
            return Condition(KEYS, "False", "NotConfigured", text)
        refused = [
            state
            for state in states
            if state.consecutive_failures and state.last_error == CredentialRejectedError.__name__
        ]
        if refused:
            return Condition(KEYS, "False", "CredentialRejected", _errors(refused))
        missing = [_name(each) for each in credentials if not each.has_value]
        if missing:
            text = f"No value for {', '.join(missing)}; see credentials below for the reason"
            return Condition(KEYS, "False", "KeyMissing", text)
        return Condition(KEYS, "True", "Configured", "Every provider has something to sign in with")


def _errors(states: Sequence[CacheStatus]) -> str:
    """Return the last error of each identity; its text includes the cure."""
    return "; ".join(f"{state.name}: {state.last_error_text or 'no token'}" for state in states)


def _identity(provider_id: str | None, status: CacheStatus) -> dict[str, Any]:
    error = None
    if status.last_error is not None:
        error = {
            "type": status.last_error,
            "message": status.last_error_text,
            "cure": status.last_error_cure,
            "current": bool(status.consecutive_failures),
        }
    return {
        "name": provider_id or status.name,
        "state": status.zone,
        "expiresAt": None if status.expires_on is None else timestamp(status.expires_on),
        "remainingSeconds": status.remaining,
        "lastRenewal": None if status.last_success is None else timestamp(status.last_success),
        "nextAttemptSeconds": status.next_attempt,
        "renewals": status.renewals,
        "failures": status.failures,
        "consecutiveFailures": status.consecutive_failures,
        "waits": status.waits,
        "refreshing": status.refreshing,
        "lastError": error,
    }


def _checks(state: InboundStatus) -> dict[str, Any]:
    return {
        "kind": state.kind,
        "ready": state.ready,
        "keys": state.keys,
        "reloads": state.reloads,
        "failures": state.failures,
        "lastError": state.last_error or None,
    }


def _credential(state: Credential) -> dict[str, Any]:
    return {
        "name": _name(state),
        "source": state.source,
        "usable": state.has_value,
        "ageSeconds": state.age,
        "failures": state.failures,
        "fault": state.fault,
    }


def _name(state: Credential) -> str:
    owner = state.provider_id or state.provider_type or "any"
    return f"{owner}.{state.field}" if state.field else owner
