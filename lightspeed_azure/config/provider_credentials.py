"""One entry of `provider_credentials:`: which field of a provider is filled, and from where."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.problems import Key, LocatedConfigurationError, Problem, closest
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
    """Let `entra: true` mean the identity as it is."""
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
        """Return what is wrong with the choice."""
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


def _source(given: Any) -> Source:
    """Return the source that an entry names.

    Raises:
        LocatedConfigurationError: there is none, or it is none.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, Mapping):
        return Source(**redacted(given))
    text = "is missing" if given is None else "must be a map"
    raise LocatedConfigurationError([Problem((), f"{text}; write source: {{file: …}}")])


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
    source: Source
    optional: Annotated[StrictBool, BeforeValidator(boolean)] = False

    def __init__(self, /, **data: Any) -> None:
        data = RedactedDict(data)
        problems: list[Problem] = []
        try:
            data["source"] = _source(data.get("source"))
        except LocatedConfigurationError as error:
            problems = [Problem(("source", *each.key), each.text) for each in error.located]
            data["source"] = Source(env="unset")  # so that the rest is judged too
        try:
            super().__init__(**data)
        except LocatedConfigurationError as error:
            problems = [*error.located, *problems]
        if problems:
            raise LocatedConfigurationError(problems)

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
        return problems

    @property
    def name(self) -> str:
        """What to call it in messages: its provider and field."""
        return f"{self.provider_id or self.provider_type}.{self.field or 'key'}"


def _check_type(kind: str) -> Iterator[Problem]:
    """A type that nobody knows may be the operator's own; one letter off, it is a slip."""
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
    """Yield what an entry and the identities cannot both want."""
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
