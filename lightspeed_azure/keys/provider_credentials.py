"""The keys of the stack's other providers: which request needs which, and their status."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.config import ProviderCredential
from lightspeed_azure.config.block import meant
from lightspeed_azure.config.provider_credentials import credentials_from, wrong_field
from lightspeed_azure.config.provider_fields import TAKES_ANY, fields_of, is_key_field, key_field
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    KeyUnavailableError,
    LightspeedAzureError,
)
from lightspeed_azure.keys.key_source import (
    ConfiguredKey,
    EnvironmentKey,
    FileKey,
    KeySource,
    PluginKey,
)
from lightspeed_azure.keys.token_key import EntraKey, GoogleKey
from lightspeed_azure.secrets import RedactedDict, RedactedStr, redacted
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.manager import AzureEntraIDManager


def _is_key(field: str | None) -> bool:
    """Return whether a field holds a key; None is the provider's key, whatever its name."""
    return field is None or is_key_field(field)


class ProviderKeys:
    """The provider data that requests for one provider need.

    Args:
        provider_id: the provider.
        fields: field → its source.
        base_url: the provider's endpoint, which `remote::azure` needs beside the key.
        alias: another field for the key, on stacks that read one by the provider's name.
    """

    def __init__(
        self,
        provider_id: str,
        fields: Mapping[str, KeySource],
        *,
        base_url: str | None,
        alias: str | None,
    ) -> None:
        self.provider_id = provider_id
        self._fields = fields
        self._base_url = base_url
        self._alias = alias

    def replace(self, identity: Identity | None) -> bool:
        """Return whether these replace the identity's token.

        Args:
            identity: the identity for the provider; one with its provider_id wins.
        """
        if identity is None:
            return True
        return "azure_api_key" in self._fields and identity.provider_id != self.provider_id

    async def data(self, given: Collection[str] = ()) -> dict[str, Any]:
        """Return the fields as they are now.

        Args:
            given: the fields that the caller sends; they are neither looked up nor returned.

        Raises:
            TokenError: one that is not optional has no value; the request must not be sent.
        """
        found = RedactedDict()
        theirs = {name.lower() for name in given}
        for field, source in self._fields.items():
            if field.lower() in theirs or (self._alias in theirs and _is_key(field)):
                continue
            value = await source.get(self.provider_id, field)
            if value is not None:
                found[field] = value.get_secret_value()
            elif not source.credential.optional:
                raise KeyUnavailableError(
                    f"provider_credentials {source.credential.name}: {source.fault}",
                    cure="The request was not sent",
                )
        if "azure_api_key" in found and "azure_api_base" not in self._fields:
            found["azure_api_base"] = self._endpoint()
        return found

    def refused(self, sent: Mapping[str, Any]) -> None:
        """Note that the provider refused these keys."""
        for field, source in self._fields.items():
            if field in sent:
                source.invalidate(SecretStr(sent[field]), self.provider_id)

    def accepted(self, sent: Mapping[str, Any]) -> None:
        """Note that the provider accepted these keys."""
        for field, source in self._fields.items():
            if field in sent:
                source.accepted(SecretStr(sent[field]), self.provider_id)

    def _endpoint(self) -> str:
        if self._base_url is None:
            raise InvalidConfigurationError(
                f"Provider {self.provider_id!r} has no base_url; the stack takes no key "
                "without one: add config.base_url to the provider"
            )
        return self._base_url


_SHORTEST_SECRET = 16
"""Characters; a shorter key, such as EMPTY, may be part of any text."""


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """A snapshot of one source; it contains no secret.

    Attributes:
        provider_id: whose it is, or None for all of a type.
        provider_type: likewise, or None.
        field: what it fills; None for the provider's key.
        source: the kind of source.
        has_value: whether it has a value.
        fault: what is wrong with the source now, or "".
        reloads: how often the value changed; the first value counts.
        failures: how often it had no new value.
        age: seconds since the value was last known to be current; None if it never was.
    """

    provider_id: str | None
    provider_type: str | None
    field: str | None
    source: str
    has_value: bool
    fault: str
    reloads: int
    failures: int
    age: float | None


class ProviderCredentials:
    """Every source that `provider_credentials:` names. Safe to use from any thread.

    Args:
        config: entries of `Configuration.provider_credentials`, or as an operator writes them.
        manager: returns the manager whose identities give Entra ID tokens.
        monotonic: gives seconds.

    Attributes:
        sources: where each value comes from, in the order of the configuration.

    Raises:
        InvalidConfigurationError: with every problem.
    """

    @classmethod
    def of(cls, config: Any, manager: Callable[[], AzureEntraIDManager]) -> "ProviderCredentials":
        """Return the sources of a configuration; an instance is returned as it is."""
        return config if isinstance(config, cls) else cls(config, manager=manager)

    def __init__(
        self,
        config: Any = None,
        *,
        manager: Callable[[], AzureEntraIDManager] = AzureEntraIDManager,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        config = redacted(config)
        failure: InvalidConfigurationError | None = None
        entries: tuple[ProviderCredential, ...] = ()
        try:
            entries = credentials_from(config)
        except InvalidConfigurationError as error:
            failure = InvalidConfigurationError(*error.problems)
        if failure is not None:
            raise failure
        self.sources = tuple(_source(entry, manager, monotonic) for entry in entries)
        self._told: set[str] = set()
        self._known: dict[tuple[str, str, str | None, str], ProviderKeys | None] = {}

    def __bool__(self) -> bool:
        return bool(self.sources)

    def keys(
        self, provider_id: str, provider_type: str, base_url: str | None, family: str
    ) -> ProviderKeys | None:
        """Return what the requests for a provider need; None if nothing is configured for it.

        Args:
            provider_id: its name.
            provider_type: as the stack says.
            base_url: likewise.
            family: the stack's, `llama-stack` or `ogx`.

        Raises:
            InvalidConfigurationError: a field is configured that the provider does not read.
        """
        which = (provider_id, provider_type, base_url, family)
        if which not in self._known:
            self._known[which] = self._keys(*which)
        return self._known[which]

    def problems(self, providers: Mapping[str, str], family: str) -> Iterator[str]:
        """Yield what does not fit the stack's providers, one line each.

        Args:
            providers: provider_id → provider_type.
            family: the stack's.
        """
        for source in self.sources:
            entry = source.credential
            if entry.provider_id is not None and entry.provider_id not in providers:
                yield (
                    f"provider_credentials {entry.name}: the stack has no provider "
                    f"{entry.provider_id}; {meant(entry.provider_id, providers)}"
                )
        for name, kind in providers.items():
            try:
                self.keys(name, kind, None, family)
            except InvalidConfigurationError as error:
                yield str(error)

    def news(self, providers: Mapping[str, str], family: str) -> list[str]:
        """Return the `problems` that it has not returned before."""
        found = [each for each in self.problems(providers, family) if each not in self._told]
        self._told.update(found)
        return found

    def secrets(self) -> list[str]:
        """Return the latest keys, to search for them in texts that must contain none."""
        found = (source.latest() for source in self.sources if _is_key(source.credential.field))
        values = (key.get_secret_value() for key in found if key is not None)
        return [RedactedStr(value) for value in values if len(value) >= _SHORTEST_SECRET]

    def status(self) -> tuple[CredentialStatus, ...]:
        """Return an immutable snapshot of every source, without secrets."""
        return tuple(
            CredentialStatus(
                provider_id=source.credential.provider_id,
                provider_type=source.credential.provider_type,
                field=source.credential.field,
                source=source.credential.source.kind,
                has_value=source.latest() is not None,
                fault=source.fault,
                reloads=source.reloads,
                failures=source.failures,
                age=source.age,
            )
            for source in self.sources
        )

    async def look(self) -> None:
        """Ask every source once, so that `status` is known before the first request."""
        for source in self.sources:
            name, field = source.credential.provider_id or "", source.credential.field or ""
            if source.credential.source.kind == "plugin" and not (name and field):
                continue  # a resolver is asked for a provider by name
            with contextlib.suppress(LightspeedAzureError):  # noted by the source itself
                await source.get(name, field)

    def close(self) -> None:
        """Stop background work."""
        for source in self.sources:
            source.close()

    def _keys(
        self, provider_id: str, provider_type: str, base_url: str | None, family: str
    ) -> ProviderKeys | None:
        fields: dict[str, KeySource] = {}
        own = [s for s in self.sources if s.credential.provider_id == provider_id]
        alike = [
            source
            for source in self.sources
            if source.credential.provider_id is None
            and source.credential.provider_type == provider_type
        ]
        for source in (*alike, *own):
            name = _field(source.credential, provider_id, provider_type, family)
            fields[name] = source
        if not fields:
            return None
        alias = f"{provider_id}_api_key".lower() if family == "ogx" else None
        return ProviderKeys(provider_id, fields, base_url=base_url, alias=alias)


def _field(entry: ProviderCredential, provider_id: str, provider_type: str, family: str) -> str:
    """Return the field that an entry fills for a provider.

    Raises:
        InvalidConfigurationError: the provider does not read it.
    """
    problem = ""
    fields = fields_of(provider_type, family)
    if entry.provider_type not in (None, provider_type):
        problem = f"is {provider_type} in the stack; correct provider_type"
    elif entry.field is None:
        found = key_field(provider_type, family)
        if found is not None:
            return found
        problem = (
            f"field is missing; name the field for the key of {provider_type}, "
            "or remove the entry if it takes no key"
        )
    elif fields and entry.field not in fields and provider_type not in TAKES_ANY:
        problem = f"{entry.field} {wrong_field(provider_type, fields, entry.field)}"
    if problem:
        raise InvalidConfigurationError(f"provider_credentials: {provider_id}: {problem}")
    return entry.field or ""


def _source(
    entry: ProviderCredential,
    manager: Callable[[], AzureEntraIDManager],
    monotonic: Callable[[], float],
) -> KeySource:
    match entry.source.kind:
        case "file":
            return FileKey(entry, monotonic)
        case "env":
            return EnvironmentKey(entry, monotonic)
        case "entra":
            return EntraKey(entry, manager, monotonic)
        case "google":
            return GoogleKey(entry, monotonic)
        case "plugin":
            return PluginKey(entry, monotonic)
    return ConfiguredKey(entry, monotonic)
