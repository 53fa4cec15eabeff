"""The environment variable that holds a service's key, and that no two services share one."""

import re
from collections.abc import Iterable

from lightspeed_azure.errors import InvalidConfigurationError


def environment_name(service: str) -> str:
    """Return the variable's name: `azure-openai` is in AZURE_OPENAI_API_KEY.

    Whatever a name of POSIX cannot hold (hyphens, dots, a digit in front) becomes an underscore.

    Args:
        service: a service, or a Llama Stack `provider_id`.

    Raises:
        InvalidConfigurationError: there is no letter and no digit in it.
    """
    text = re.sub(r"[^A-Z0-9]", "_", service.upper())
    if not text.strip("_"):
        raise InvalidConfigurationError(
            "a service needs a name with a letter or a digit of ASCII in it, such as azure-openai"
        )
    return f"{'_' if text[0].isdigit() else ''}{text}_API_KEY"


def check_distinct(services: Iterable[str]) -> None:
    """Refuse services whose keys would be in one variable.

    Raises:
        InvalidConfigurationError: with one line for each such variable.
    """
    found: dict[str, list[str]] = {}
    for service in dict.fromkeys(services):
        found.setdefault(environment_name(service), []).append(service)
    problems = [collision(name, same) for name, same in found.items() if len(same) > 1]
    if problems:
        raise InvalidConfigurationError(*problems)


def collision(name: str, services: Iterable[str]) -> str:
    """Return the words for services that share a variable."""
    return f"{' and '.join(services)} both read {name}; rename one of them"
