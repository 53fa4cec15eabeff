"""Where a vault holds a key. The keys of two providers never share a place."""

import re

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.config.provider_fields import is_key_field
from lightspeed_azure.errors import ResolverUnavailableError
from lightspeed_azure.keys.hook_call import HookCall

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MOST = 4096
"""Places remembered."""


class Places:
    """Remembers which provider's key is where. Safe for any number of threads.

    Two providers whose ids differ only in what a vault does not distinguish (`a_b`, `a-b`) would
    get one key; the second one gets an error.
    """

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._owners: dict[str, tuple[str, str]] = {}

    def claim(self, place: str, call: HookCall) -> None:
        """Note that the key is at this place.

        Raises:
            ResolverUnavailableError: another provider's key is there.
        """
        # A provider's key has two names: of the field, and of the service.
        kind = "" if is_key_field(call.field) else call.field
        mine = (call.provider_id, kind)
        with self._lock:
            if len(self._owners) >= _MOST:
                self._owners.clear()
            owner = self._owners.setdefault(place, mine)
        if owner != mine:
            text = (
                f"{place} holds a key of provider {owner[0]} already; rename one, or its template"
            )
            raise ResolverUnavailableError(text, down=False)


def names_in(call: HookCall) -> dict[str, str]:
    """Return the names that fill a template; `../other` and the like are refused.

    Raises:
        ResolverUnavailableError: a name has other characters than letters, digits, `.`, `_`, `-`.
    """
    names = {"provider_id": call.provider_id, "field": call.field}
    if not all(_NAME.fullmatch(name) for name in names.values()):
        text = "a provider_id and a field have letters, digits, '.', '_' and '-' only here"
        raise ResolverUnavailableError(text, down=False)
    return names
