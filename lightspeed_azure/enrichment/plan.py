"""What enriching would change in a stack's configuration, and what it cannot mend but must say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from lightspeed_azure.enrichment.advice import Note, advice
from lightspeed_azure.enrichment.document import Path
from lightspeed_azure.enrichment.providers import (
    AzureProvider,
    azure_providers,
    inference_providers,
    registered_models,
)
from lightspeed_azure.enrichment.references import REFERENCE


class Removed(Enum):
    """The one value `REMOVED`: what a change leaves behind that removes a key."""

    REMOVED = "removed"


REMOVED: Final = Removed.REMOVED


@dataclass(frozen=True, slots=True)
class Change:
    """One key that gets another value.

    Attributes:
        path: which key.
        value: False, a text, `REMOVED`, or None where a key must stay but be empty.
        why: what that does, for people.
    """

    path: Path
    value: bool | str | Removed | None
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with one configuration.

    Attributes:
        changes: the keys that change, outer ones and earlier ones first.
        warnings: what remains for the operator to look at, each with its cure.
    """

    changes: tuple[Change, ...] = ()
    warnings: tuple[Note, ...] = ()


def plan(
    tree: Mapping[str, Any],
    identities: Sequence[str | None],
    *,
    repair: bool = True,
    drop_api_key: bool = False,
) -> Plan:
    """Return what to change in a configuration, which stays as it is.

    Args:
        tree: the stack's configuration.
        identities: the `provider_id` of each configured identity, None for one that serves every
            provider.
        repair: also put right what keeps a stack from starting without a key.
        drop_api_key: remove the `api_key` of Azure providers.

    Raises:
        ShapeError: a part of the configuration has a shape that no stack takes.
    """
    azure = azure_providers(tree)
    changes: list[Change] = []
    for provider in azure:
        changes += _provider_changes(provider, repair=repair, drop_api_key=drop_api_key)
    if repair:
        changes += _model_changes(tree, azure)
    changed = {change.path for change in changes if change.path[-1] == "api_key"}
    dropped = {change.path for change in changes if change.value is REMOVED}
    return Plan(tuple(changes), tuple(advice(tree, azure, identities, changed, dropped)))


def _provider_changes(
    provider: AzureProvider, *, repair: bool, drop_api_key: bool
) -> Iterator[Change]:
    config = provider.config
    path: Path = (*provider.path, "config")
    if config.get("model_validation") is not False:
        yield Change((*path, "model_validation"), False, "set to false")
    key = config.get("api_key")
    if key is None:
        return
    if drop_api_key:
        yield Change((*path, "api_key"), REMOVED, "removed: the token is the only way in")
    elif repair and isinstance(key, str) and key != (optional := with_optional_references(key)):
        names = ", ".join(match[1] for match in REFERENCE.finditer(key) if not match[2])
        why = f"made optional: the stack starts without {names}, which it would have insisted on"
        yield Change((*path, "api_key"), optional, why)


def _model_changes(tree: Mapping[str, Any], azure: Sequence[AzureProvider]) -> Iterator[Change]:
    names = {provider.name for provider in azure} | {
        str(provider.entry.get("provider_id")) for provider in azure
    }
    alone = len(azure) == len(list(inference_providers(tree)))
    for path, model in registered_models(tree):
        served_by = model.get("provider_id")
        ours = str(served_by) in names if served_by is not None else alone
        if azure and ours and model.get("model_validation") is True:
            why = "set to false: the stack would ask Azure for this model when it starts"
            yield Change((*path, "model_validation"), False, why)


def with_optional_references(text: str) -> str:
    """Return a text in which `${env.NAME}` no longer insists on its variable."""
    return REFERENCE.sub(lambda match: match[0] if match[2] else f"${{env.{match[1]}:=}}", text)


def apply_changes(tree: Any, changes: Sequence[Change]) -> Any:
    """Return the tree as it is after the changes; the one given, and what it shares, stays."""
    for change in changes:
        tree = _replace_at(tree, change.path, change.value)
    return tree


def _replace_at(tree: Any, path: Path, value: object) -> Any:
    head, *rest = path
    if isinstance(tree, list) and isinstance(head, int):
        return [
            _replace_at(item, tuple(rest), value) if n == head else item
            for n, item in enumerate(tree)
        ]
    copy = dict(tree or {})
    if rest:
        copy[str(head)] = _replace_at(copy.get(str(head)), tuple(rest), value)
    elif value is REMOVED:
        copy.pop(str(head), None)
    else:
        copy[str(head)] = value
    return copy
