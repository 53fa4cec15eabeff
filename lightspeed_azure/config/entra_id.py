"""The `azure_entra_id:` block: one identity, and how it signs in."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.cloud import CLOUDS, CloudName, cloud_of
from lightspeed_azure.config.credential_kinds import KINDS, CredentialKind
from lightspeed_azure.config.custom_credential import factory_name
from lightspeed_azure.config.managed_identity import ManagedIdentity, which_identity
from lightspeed_azure.config.problems import Problem, closest
from lightspeed_azure.config.values import (
    Identifier,
    Seconds,
    authority_url,
    boolean,
    file_path,
    identifier,
    name,
    plain_text,
    scope_name,
    secret_text,
)
from lightspeed_azure.secrets import RedactedDict, SecretFile


class AzureEntraIdConfiguration(Block):
    """One identity at Entra ID; docs/credentials.md describes every key.

    Where the block is silent, the environment variables speak that azure-identity reads, but a
    kind of credential that the block names is never overruled by a variable.

    Args:
        environ: the environment to ask; the process's when None.
        **data: the keys of the block.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    tenant_id: Annotated[Identifier | None, BeforeValidator(identifier)] = None
    client_id: Annotated[Identifier | None, BeforeValidator(identifier)] = None
    client_secret: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    client_secret_path: Annotated[Path | None, BeforeValidator(file_path)] = None
    certificate_path: Annotated[Path | None, BeforeValidator(file_path)] = None
    certificate_password: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    send_certificate_chain: Annotated[StrictBool, BeforeValidator(boolean)] = False
    federated_token_file: Annotated[Path | None, BeforeValidator(file_path)] = None
    managed_identity: Annotated[ManagedIdentity | None, BeforeValidator(which_identity)] = None
    azure_cli: Annotated[StrictBool, BeforeValidator(boolean)] = False
    default: Annotated[StrictBool, BeforeValidator(boolean)] = False
    credential: Annotated[str | None, BeforeValidator(factory_name)] = None
    scope: Annotated[str | None, BeforeValidator(scope_name)] = None
    cloud: Annotated[CloudName, BeforeValidator(plain_text)] = "public"
    authority_host: Annotated[str, BeforeValidator(authority_url)] = CLOUDS["public"].authority
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    prefetch: Annotated[StrictBool, BeforeValidator(boolean)] = False
    deadline: Seconds = 15.0
    provider_id: Annotated[str | None, BeforeValidator(name)] = None

    def __init__(self, /, *, environ: Mapping[str, str] | None = None, **data: Any) -> None:
        data = RedactedDict(filled(data, os.environ if environ is None else environ))
        del environ
        super().__init__(**data)

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        misspelt = {
            closest(name, cls.model_fields) for name in given.keys() - cls.model_fields.keys()
        }
        problems = _check_kinds(given, misspelt)
        cloud = cloud_of(given["authority_host"]) if _is_text(given, "authority_host") else None
        named = CLOUDS.get(given["cloud"]) if _is_text(given, "cloud") else None
        if cloud and named and cloud != named:
            text = f"is that of cloud {cloud.name}, not {named.name}; give only one of them"
            problems.append(Problem(("authority_host",), text))
        return problems

    @classmethod
    def foreign_values(cls, obj: object) -> dict[str, Any]:
        """Return the keys that a foreign object sets; see `Block.foreign_values`.

        The scope of a pydantic model only counts if it was set: lightspeed-stack's own model has a
        default, which would win over the scope of the cloud.
        """
        found = super().foreign_values(obj)
        if isinstance(obj, BaseModel) and "scope" not in obj.model_fields_set:
            found.pop("scope", None)
        return found

    @property
    def kind(self) -> CredentialKind:
        """How this identity signs in."""
        return _kinds(self.__dict__)[0]

    @property
    def credential_kind(self) -> str:
        """The name of `kind`."""
        return self.kind.name

    @property
    def default_scope(self) -> str:
        """What a token is for while no endpoint is known: the configured scope, or the cloud's."""
        return self.scope or CLOUDS[self.cloud].scope

    @property
    def is_private_authority(self) -> bool:
        """Whether the authority is none of Microsoft's, so that Microsoft cannot vouch for it."""
        return cloud_of(self.authority_host) is None

    def secret_file(self) -> SecretFile | None:
        """Return the file that this identity signs in with, or None if it needs none."""
        return self.kind.secret_file(self)


def filled(data: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the block with missing keys filled in from the environment and the cloud."""
    given = {name: value for name, value in data.items() if value is not None}
    kinds = _kinds(given)
    if not kinds:
        kinds = [kind for kind in KINDS.values() if environ.get(kind.variable)][:1]
        for kind in kinds:
            given[kind.key] = environ[kind.variable]
            _fill(given, kind.options, environ)
    for kind in kinds:
        _fill(given, kind.required, environ)
    _fill_cloud(given, environ)
    return given


def _fill(given: dict[str, Any], variables: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Fill in missing keys from their environment variables, which write true as `1` too."""
    for key, variable in variables.items():
        value = environ.get(variable)
        if value:
            field = AzureEntraIdConfiguration.model_fields.get(key)
            is_boolean = field is not None and isinstance(field.default, bool)
            given.setdefault(key, value.lower() in ("1", "true") if is_boolean else value)


def _fill_cloud(given: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Fill in the authority and the cloud; each may follow from the other."""
    host = environ.get("AZURE_AUTHORITY_HOST")
    if host and "authority_host" not in given and "cloud" not in given:
        given["authority_host"] = host if "://" in host else f"https://{host}"
    if environ.get("AZURE_AUTHORITY_CA_BUNDLE"):
        given.setdefault("ca_bundle", environ["AZURE_AUTHORITY_CA_BUNDLE"])
    if _is_text(given, "authority_host"):
        given["authority_host"] = given["authority_host"].strip().rstrip("/").lower()
        known = cloud_of(given["authority_host"])
        if known:
            given.setdefault("cloud", known.name)
    cloud = CLOUDS.get(given["cloud"]) if _is_text(given, "cloud") else CLOUDS["public"]
    if cloud:
        given.setdefault("authority_host", cloud.authority)


def _kinds(given: Mapping[str, Any]) -> list[CredentialKind]:
    """Return the kinds that the keys choose; `false` and `'false'` choose nothing."""
    return [
        kind for key, kind in KINDS.items() if str(given.get(key)).lower() not in ("none", "false")
    ]


def _is_text(given: Mapping[str, Any], key: str) -> bool:
    return isinstance(given.get(key), str)


def _check_kinds(given: Mapping[str, Any], misspelt: set[str | None]) -> list[Problem]:
    """Return what is wrong with the choice of a credential.

    Args:
        given: the keys of the block.
        misspelt: the keys that seem to be meant by unknown ones; they are not called missing.
    """
    problems: list[Problem] = []
    kinds = _kinds(given)
    if not kinds and not misspelt & {*KINDS}:
        variables = ", ".join(kind.variable for kind in KINDS.values() if kind.variable)
        text = f"says no way to sign in; give one of {', '.join(KINDS)}, or set one of {variables}"
        problems.append(Problem((), text))
    elif len(kinds) > 1:
        text = f"{' and '.join(kind.key for kind in kinds)} exclude each other; keep one of them"
        problems.append(Problem((kinds[1].key,), text))
    problems += [
        Problem((key,), f"belongs to {kind.key}; add that, or remove this")
        for kind in KINDS.values()
        if kinds and kind not in kinds
        for key in kind.options
        if given.get(key)
    ]
    if len(kinds) == 1:
        (kind,) = kinds
        problems += [
            Problem((key,), f"is missing; add it, or set {variable}")
            for key, variable in kind.required.items()
            if key not in given and key not in misspelt
        ]
        problems += [Problem((key,), text) for key, text in kind.excluded.items() if key in given]
    return problems
