"""Where a key lies in a vault, and that no two providers' keys lie in one place."""

import re

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.errors import ResolverUnavailableError
from lightspeed_azure.keys import Question, is_key_field

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MOST = 4096
"""Places remembered."""


class Places:
    """Which provider's key lies where; safe for any number of threads.

    Two providers whose ids differ only in what a vault cannot tell apart (`a_b`, `a-b`) would get
    one key; the second one gets an error.
    """

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._owners: dict[str, tuple[str, str]] = {}

    def claim(self, place: str, question: Question) -> None:
        """Say that the key that is asked for lies there.

        Raises:
            ResolverUnavailableError: another one lies there.
        """
        # A provider's key may be asked for by two names: of the field, and of the service.
        kind = "" if is_key_field(question.field) else question.field
        mine = (question.provider_id, kind)
        with self._lock:
            if len(self._owners) >= _MOST:
                self._owners.clear()
            owner = self._owners.setdefault(place, mine)
        if owner != mine:
            text = (
                f"{place} holds a key of provider {owner[0]} already; rename one, or its template"
            )
            raise ResolverUnavailableError(text, down=False)


def check_names(question: Question) -> None:
    """Refuse names that could lead elsewhere, such as `../other`.

    Raises:
        ResolverUnavailableError: a name has other characters than letters, digits, `.`, `_`, `-`.
    """
    for name in (question.provider_id, question.field):
        if not _NAME.fullmatch(name):
            text = "a provider_id and a field have letters, digits, '.', '_' and '-' only here"
            raise ResolverUnavailableError(text, down=False)
