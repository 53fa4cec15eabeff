"""The `provider_credentials:` block: which field of a provider is filled, and from where.

Besides the documented shape of an entry an operator may write several `fields:` in one entry; the
source beside the field; a map by provider; and an entry of `llm_providers:` as OpenShift Lightspeed
has it in `olsconfig.yaml` (ols/app/models/config.py), whose own `*_config` block's
`credentials_path` wins.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import (
    Block,
    Key,
    LocatedConfigurationError,
    Problem,
    closest,
    unknown_key,
)
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.provider_fields import (
    TABLE,
    TAKES_ANY,
    every_field,
    fields_of,
    installed_fields,
)
from lightspeed_azure.config.values import (
    boolean,
    file_path,
    name,
    scope_name,
    secret_text,
    variable_name,
)
from lightspeed_azure.secrets import RedactedDict, redacted

type Kind = Literal["file", "env", "value", "entra", "google", "plugin"]

KINDS: tuple[Kind, ...] = ("file", "env", "value", "entra", "google", "plugin")
"""Where a value can come from; each is a key of `source:`."""


class EntraSource(Block):
    """An Entra ID token of an identity of `azure_entra_id:`, for an audience of its own or not.

    Args:
        identity: the `provider_id` of the identity; when None the one for the provider, or the first.
        scope: what the token is for, where that is not the identity's own scope.
    """

    identity: Annotated[str | None, BeforeValidator(name)] = None
    scope: Annotated[str | None, BeforeValidator(scope_name)] = None


def _entra(value: Any) -> Any:
    """Accept `entra: true` for the identity with its own scope."""
    if boolean(value) is True:
        return EntraSource()
    if not isinstance(value, Mapping | EntraSource):
        raise ValueError("must be true, or a map with scope or identity")  # noqa: TRY004 - pydantic
    return value


class Source(Block):
    """Where a value comes from: exactly one of these.

    Args:
        file: a file, or a directory with a file `apitoken`; read again for each request.
        env: the name of an environment variable.
        value: the value itself, best as `${env.NAME}`.
        entra: an Entra ID token.
        google: the file of a Google service account, or of an authorised user: an access token
            is fetched with it.
        plugin: the name of a resolver.
    """

    file: Annotated[Path | None, BeforeValidator(file_path)] = None
    env: Annotated[str | None, BeforeValidator(variable_name)] = None
    value: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    entra: Annotated[EntraSource | None, BeforeValidator(_entra)] = None
    google: Annotated[Path | None, BeforeValidator(file_path)] = None
    plugin: Annotated[str | None, BeforeValidator(name)] = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return the problems of the choice."""
        chosen = [name for name in KINDS if name in given]
        if len(chosen) > 1:
            text = f"{' and '.join(chosen)} exclude each other; keep one of them"
            return [Problem((chosen[1],), text)]
        if not chosen and not any(closest(name, KINDS) for name in given):
            return [Problem((), f"says no source; give one of {', '.join(KINDS)}")]
        return []

    @property
    def kind(self) -> Kind:
        """Which of the sources it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)


_WRITE_SOURCE = "write source: {file: …}"


def _source(value: Any) -> Any:
    if not isinstance(value, Mapping | Source):
        raise ValueError(f"must be a map; {_WRITE_SOURCE}")  # noqa: TRY004 - pydantic collects it
    return value


def provider_type_name(value: Any) -> str:
    """Return a provider type as the stack spells it: `vllm` means `remote::vllm`."""
    text = name(value)
    return text if "::" in text else f"remote::{text}"


class ProviderCredential(Block):
    """One field of one provider, and where its value comes from.

    Args:
        provider_id: the stack's name for the provider.
        provider_type: such as `remote::vllm`; without `provider_id` all providers of that type.
        field: the provider-data field; when None, the one for the key of that provider.
        source: where the value comes from.
        optional: whether requests go out without the field while the source has no value.
    """

    provider_id: Annotated[str | None, BeforeValidator(name)] = None
    provider_type: Annotated[str | None, BeforeValidator(provider_type_name)] = None
    field: Annotated[str | None, BeforeValidator(name)] = None
    source: Annotated[Source, BeforeValidator(_source)]
    optional: Annotated[StrictBool, BeforeValidator(boolean)] = False

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        problems = []
        misspelt = {closest(name, cls.model_fields) for name in given.keys() - cls.model_fields}
        if not {"provider_id", "provider_type"} & (given.keys() | misspelt):
            text = "is missing; name the provider as the stack's configuration does"
            problems.append(Problem(("provider_id",), text))
        kind, name = given.get("provider_type"), given.get("field")
        kind = provider_type_name(kind) if isinstance(kind, str) and kind.strip() else None
        if kind:
            problems += _check_type(kind)
        if not problems and isinstance(name, str) and name.strip():
            problems += _check_field(name.strip(), kind)
        if "source" not in given:
            problems.append(Problem(("source",), f"is missing; {_WRITE_SOURCE}"))
        return problems

    @property
    def name(self) -> str:
        """What to call it in messages: its provider and field."""
        return f"{self.provider_id or self.provider_type}.{self.field or 'key'}"


def _check_type(kind: str) -> Iterator[Problem]:
    """Report a misspelt type; an unknown one may be the operator's own."""
    known = {name for table in TABLE.values() for name in table}
    if kind not in known and (nearest := closest(kind, known, cutoff=0.85)):
        yield Problem(("provider_type",), f"there is no such type; did you mean {nearest}?")


def _check_field(name: str, kind: str | None) -> Iterator[Problem]:
    fields = every_field() if kind is None else frozenset(fields_of(kind))
    if name in fields or kind in TAKES_ANY or not fields:
        return
    installed = installed_fields()
    if name in (
        installed.get(kind, ()) if kind else [n for each in installed.values() for n in each]
    ):
        return
    yield Problem(("field",), wrong_field(kind, tuple(sorted(fields)), name))


def wrong_field(kind: str | None, fields: tuple[str, ...], name: str) -> str:
    """Return the text for a field that a provider does not read."""
    nearest = closest(name, fields)
    if kind:
        cure = f"its fields are {', '.join(fields)}"
        return f"is none that {kind} reads; {cure}"
    if nearest:
        return f"is none that a provider reads; did you mean {nearest}?"
    return (
        "is none that a provider reads; docs/credential-hot-reload.md lists them (for a "
        "provider that takes any, add provider_type: remote::passthrough)"
    )


def check_against(
    credential: ProviderCredential, identities: Sequence[AzureEntraIdConfiguration], key: Key
) -> Iterator[Problem]:
    """Yield the conflicts between an entry and the identities."""
    names = [identity.provider_id for identity in identities]
    entra = credential.source.entra
    if entra is None:
        own = credential.provider_id is not None and credential.provider_id in names
        if own and credential.field in (None, "azure_api_key"):
            text = "has an identity in azure_entra_id, too; keep that, or this"
            yield Problem((*key, "provider_id"), text)
    elif not identities:
        text = "needs an identity; add an azure_entra_id block"
        yield Problem((*key, "source", "entra"), text)
    elif entra.identity is not None and entra.identity not in names:
        text = "is the provider_id of no azure_entra_id block; correct it"
        yield Problem((*key, "source", "entra", "identity"), text)


OLS_TYPES: Mapping[str, str | None] = {
    "azure_openai": "remote::azure",
    "bedrock": "remote::bedrock",
    "google_vertex": "remote::vertexai",
    "google_vertex_anthropic": None,
    "openai": "remote::openai",
    "rhelai_vllm": "remote::vllm",
    "rhoai_vllm": "remote::vllm",
    "watsonx": "remote::watsonx",
}
"""OpenShift Lightspeed's types → the stack's; neither stack supports Claude on Vertex."""

_OLS_KEYS = frozenset(
    [
        *("name", "provider_id", "type", "field", "optional", "credentials_path"),
        *("url", "models", "project_id", "deployment_name", "api_version", "tlsSecurityProfile"),
        *(f"{name}_config" for name in OLS_TYPES),
    ]
)
_OLS_FIELDS = {"project": "vertex_project", "location": "vertex_location"}


@dataclass(frozen=True, slots=True)
class Written:
    """One field as an operator wrote it.

    Attributes:
        data: the keys of a `ProviderCredential`.
        places: where the operator wrote a key of `data`, below the entry.
    """

    data: dict[str, Any] = field(repr=False)
    places: Mapping[str, Key]

    def credential(self) -> ProviderCredential:
        """Return the entry.

        Raises:
            LocatedConfigurationError: with every problem, at the key that the operator wrote.
        """
        try:
            return ProviderCredential(**self.data)
        except LocatedConfigurationError as error:
            problems = [self.located(problem) for problem in error.located]
        raise LocatedConfigurationError(problems)

    def located(self, problem: Problem) -> Problem:
        """Return a problem with the key that the operator wrote."""
        head = problem.key[0] if problem.key else ""
        return Problem(self.places.get(str(head), problem.key), problem.text)


def entries_of(block: Any) -> list[tuple[Key, Any]]:
    """Return the entries of the block, each with its key.

    Raises:
        LocatedConfigurationError: it is neither a list nor a map.
    """
    if isinstance(block, list | tuple):
        return [((index,), item) for index, item in enumerate(block)]
    if isinstance(block, Mapping) and not block.keys() & {"provider_id", "provider_type", "source"}:
        return [
            ((str(name),), {"provider_id": name, **item} if isinstance(item, Mapping) else item)
            for name, item in block.items()
        ]
    if isinstance(block, Mapping):
        return [((), block)]
    text = "must be a list of entries, each with provider_id, field and source"
    raise LocatedConfigurationError([Problem((), text)])


def flatten(item: Mapping[str, Any]) -> Iterator[Written]:
    """Yield an entry's fields, one by one, in the documented shape.

    Raises:
        LocatedConfigurationError: the shape is not known.
    """
    if "credentials_path" in item or any(f"{name}_config" in item for name in OLS_TYPES):
        yield from _from_ols(item)
        return
    if item.keys() & {"name", "type"} and not item.keys() & {"source", "fields", *KINDS}:
        text = (
            "names no key; name its file with credentials_path, or remove the entry: a provider "
            "without a key needs none"
        )
        raise LocatedConfigurationError([Problem((), text)])
    if "fields" not in item:
        yield _with_source(item)
        return
    rest = RedactedDict({name: value for name, value in item.items() if name != "fields"})
    fields = RedactedDict(item["fields"]) if isinstance(item["fields"], Mapping) else None
    if not fields:
        text = "must be a map from a field to its source, such as vllm_api_token: {file: …}"
        raise LocatedConfigurationError([Problem(("fields",), text)])
    if {"field", "source"} & rest.keys():
        text = "takes the place of field and source; keep one or the other"
        raise LocatedConfigurationError([Problem(("fields",), text)])
    for key, source in fields.items():
        place: Key = ("fields", key)
        data = RedactedDict({**rest, "field": key, "source": source})
        yield Written(data, {"field": place, "source": place})


def _with_source(item: Mapping[str, Any]) -> Written:
    beside = RedactedDict({name: item[name] for name in KINDS if name in item})
    if "source" in item or not beside:
        return Written(RedactedDict(item), {})
    rest = RedactedDict({name: value for name, value in item.items() if name not in beside})
    return Written(RedactedDict({**rest, "source": beside}), {"source": (next(iter(beside)),)})


def _from_ols(item: Mapping[str, Any]) -> Iterator[Written]:
    name = item.get("provider_id") or item.get("name")
    kind = str(item.get("type") or name or "").lower()
    problems = [
        Problem((key,), unknown_key(key, _OLS_KEYS)) for key in item if key not in _OLS_KEYS
    ]
    if kind not in OLS_TYPES:
        text = f"must be one of {', '.join(OLS_TYPES)} beside credentials_path"
        problems.append(Problem(("type",), text))
    blocks = [f"{each}_config" for each in OLS_TYPES if item.get(f"{each}_config") is not None]
    own = f"{kind}_config"
    problems += [
        Problem((block,), f"belongs to another type than {kind}; remove it, or correct type")
        for block in blocks
        if block != own and kind in OLS_TYPES
    ]
    nested = item.get(own) or {}
    if not isinstance(nested, Mapping):
        problems.append(Problem((own,), "must be a map of keys and values"))
    if problems:
        raise LocatedConfigurationError(problems)
    inside = nested.get("credentials_path") is not None
    place: Key = (own, "credentials_path") if inside else ("credentials_path",)
    path = (nested if inside else item).get("credentials_path")
    if path is None:
        text = "is missing; name the file with the key, or its directory"
        raise LocatedConfigurationError([Problem(("credentials_path",), text)])
    common = {
        "provider_id": name,
        "provider_type": OLS_TYPES[kind],
        "optional": item.get("optional"),
    }
    source = {"google" if kind.startswith("google") else "file": path}
    keys = {"provider_id": ("name" if "name" in item else "provider_id",), "source": place}
    yield Written({**common, "field": item.get("field"), "source": source}, keys)
    if OLS_TYPES[kind] == "remote::vertexai":
        for key, target in _OLS_FIELDS.items():
            if nested.get(key):
                data = {**common, "field": target, "source": {"value": nested[key]}}
                yield Written(data, {"source": (own, key)})


def credentials_from(block: Any) -> tuple[ProviderCredential, ...]:
    """Return the entries of a block that a program made, without substitution or a look at files.

    Raises:
        LocatedConfigurationError: with every problem.
    """
    found: list[ProviderCredential] = []
    problems: list[Problem] = []
    for within, item in entries_of(() if block is None else redacted(block)):
        if isinstance(item, ProviderCredential):
            found.append(item)
            continue
        key = ("provider_credentials", *within)
        if not isinstance(item, Mapping):
            problems.append(Problem(key, "must be a map of keys and values"))
            continue
        try:
            for written in flatten(item):
                try:
                    found.append(written.credential())
                except LocatedConfigurationError as error:
                    problems += [each.below(key) for each in error.located]
        except LocatedConfigurationError as error:
            problems += [each.below(key) for each in error.located]
    if problems:
        raise LocatedConfigurationError(problems)
    return tuple(found)
