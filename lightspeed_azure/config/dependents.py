"""`proxy.dependents`: services that wait for the proxy, each with a condition of its own."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lightspeed_azure.config.block import Problem
from lightspeed_azure.config.values import plain_text

TAKEN = ("LLMProxy",)
"""What the proxy's own condition is called."""


def dependents(value: Any) -> tuple[str, ...]:
    """Return the names of services; for pydantic's `BeforeValidator`."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list of names of services")  # noqa: TRY004 - pydantic collects ValueError
    return tuple(plain_text(item) for item in items)


def dependents_problems(given: Mapping[str, Any], key: str = "dependents") -> list[Problem]:
    """Return what is wrong with the names of services; for a block's `cross_check`."""
    items = given.get(key)
    items = [items] if isinstance(items, str) else items
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if not isinstance(item, str) or not item.strip():
            continue  # said elsewhere
        name, text = service_name(item.strip()), ""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", item.strip()):
            text = "must be a name such as solution-server: letters, digits and hyphens"
        elif name in TAKEN:
            text = "is the proxy's own condition; name the services that wait for it"
        elif name in seen:
            text = f"makes the condition {name}Ready, as {key}[{seen[name]}] does; remove one"
        if text:
            problems.append(Problem((key, number), text))
        seen.setdefault(name, number)
    return problems


def service_name(text: str) -> str:
    """Return a name as conditions write it: `solution-server` becomes `SolutionServer`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]+", text))


def condition_types(names: Iterable[str]) -> tuple[str, ...]:
    """Return the types of the conditions of these services: `SolutionServerReady`."""
    return tuple(f"{service_name(name)}Ready" for name in names)
