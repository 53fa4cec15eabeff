"""Keys of other providers, and the hook through which resolvers supply them.

How a key is resolved::

    resolve_credential(provider_id, field)      api_key.py
      no resolver? the function itself          hook.py
      for each resolver, in order               hook.py, once for threads and for coroutines
        cached and fresh → at once              answer_cache.py
        breaker open after failures → skipped   breaker.py
        else one flight for all callers         resolver.py
          on a worker thread or an event loop   runner.py
          the result is judged                  hook_call.py
        Answer → the result; Rewrite → other arguments; PASS → the next resolver
      no answer? the function itself
      for each resolver, backwards: keep the outcome, or replace it
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.credential_resolver import CredentialResolverConfiguration
from lightspeed_azure.config.provider_fields import is_key_field
from lightspeed_azure.keys.api_key import (
    aget_api_key,
    aresolve_credential,
    get_api_key,
    resolve_credential,
)
from lightspeed_azure.keys.hook import extensible
from lightspeed_azure.keys.hook_call import PASS, Answer, Failure, HookCall, Outcome, Pass, Rewrite
from lightspeed_azure.keys.registry import ResolverRegistry, registry, registry_replaced
from lightspeed_azure.keys.resolver import Resolver, ResolverStatus

__all__ = [
    "PASS",
    "Answer",
    "Failure",
    "HookCall",
    "Outcome",
    "Pass",
    "ResolverRegistry",
    "ResolverStatus",
    "Rewrite",
    "aget_api_key",
    "aresolve_credential",
    "configured",
    "extensible",
    "get_api_key",
    "invalidate",
    "is_key_field",
    "registered",
    "registry_replaced",
    "resolve_credential",
    "status",
]


def registered(
    resolver: object, *, name: str = "", on: Sequence[Any] = (), **settings: Any
) -> AbstractContextManager[Resolver]:
    """Register a resolver in this process until the block ends; see `ResolverRegistry.registered`."""
    return registry().registered(resolver, name=name, on=on, **settings)


@contextmanager
def configured(
    blocks: Iterable[CredentialResolverConfiguration],
    identities: Sequence[AzureEntraIdConfiguration] = (),
) -> Iterator[None]:
    """Do what `ResolverRegistry.configured` does; without blocks nothing changes."""
    blocks = tuple(blocks)
    if not blocks:
        yield
        return
    with registry().configured(blocks, identities):
        yield


def invalidate(key: SecretStr) -> None:
    """Ask again before this key, which a provider refused, is used."""
    registry().invalidate(key)


def status() -> tuple[ResolverStatus, ...]:
    """Return a snapshot of every resolver of the process; it contains no key."""
    return registry().status()
