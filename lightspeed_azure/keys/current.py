"""The registry of the process, and how another one stands in for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightspeed_azure.keys.chains import chains_changed
from lightspeed_azure.keys.registry import ResolverRegistry

_process_wide = ResolverRegistry()
_standing_in: list[ResolverRegistry] = []


def current() -> ResolverRegistry:
    """Return the registry of the process, or the one that stands in for it."""
    return _standing_in[-1] if _standing_in else _process_wide


@contextmanager
def standing_in(registry: ResolverRegistry) -> Iterator[ResolverRegistry]:
    """Let this be the registry of the process until the block ends, as tests do."""
    _standing_in.append(registry)
    chains_changed()
    try:
        yield registry
    finally:
        _standing_in.remove(registry)
        chains_changed()
