"""The hook through which resolvers answer for keys, and the functions that are built on it.

One question through the hook::

    resolve_credential(provider_id, field)      api_key.py
      no resolver? the function itself          point.py
      for each resolver, in order               chain.py, once for threads and for coroutines
        kept, and fresh → at once               answers.py
        resting after failures → passed by      breaker.py
        else one flight for all who ask         registration.py
          on a thread or a loop of its own      runner.py, workers.py
          what it returned, judged              reply.py
        Answer → that; Ask → another question; PASS → the next one
      nobody answered? the function itself
      for each resolver, backwards: leave the outcome, replace it, or mend an error
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.credential_resolver import CredentialResolverConfiguration
from lightspeed_azure.keys.api_key import (
    aget_api_key,
    aresolve_credential,
    get_api_key,
    is_key_field,
    resolve_credential,
)
from lightspeed_azure.keys.hook import extensible
from lightspeed_azure.keys.hook_call import PASS, Answer, Ask, Failure, Outcome, Pass, Question
from lightspeed_azure.keys.registry import ResolverRegistry, current, standing_in
from lightspeed_azure.keys.resolver import Registration, ResolverStatus

__all__ = [
    "PASS",
    "Answer",
    "Ask",
    "Failure",
    "Outcome",
    "Pass",
    "Question",
    "ResolverRegistry",
    "ResolverStatus",
    "aget_api_key",
    "aresolve_credential",
    "configure",
    "configured",
    "extensible",
    "get_api_key",
    "is_key_field",
    "refused",
    "registered",
    "resolve_credential",
    "standing_in",
    "status",
]


def registered(
    resolver: object, *, name: str = "", on: Sequence[Any] = (), **settings: Any
) -> AbstractContextManager[Registration]:
    """Register a resolver in this process until the block ends; see `ResolverRegistry.registered`."""
    return current().registered(resolver, name=name, on=on, **settings)


def configure(
    blocks: Iterable[CredentialResolverConfiguration],
    identities: Sequence[AzureEntraIdConfiguration] = (),
) -> None:
    """Register what is configured, in the place of what was; see `ResolverRegistry.configure`."""
    current().configure(blocks, identities)


@contextmanager
def configured(
    blocks: Iterable[CredentialResolverConfiguration],
    identities: Sequence[AzureEntraIdConfiguration] = (),
) -> Iterator[None]:
    """Let these be what is configured until the block ends; nothing to configure changes nothing."""
    blocks = tuple(blocks)
    if not blocks:
        yield
        return
    with current().configured(blocks, identities):
        yield


def refused(key: SecretStr) -> None:
    """Take note that a provider did not accept this key; see `ResolverRegistry.refused`."""
    current().refused(key)


def status() -> tuple[ResolverStatus, ...]:
    """Return a snapshot of every resolver of the process; it holds no key."""
    return current().status()
