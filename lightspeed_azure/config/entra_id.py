"""The `azure_entra_id:` block: one identity, and how it signs in."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import Block, Problem, closest
from lightspeed_azure.config.cloud import CLOUDS, CloudName, cloud_of
from lightspeed_azure.config.managed_identity import ManagedIdentity, which_identity
from lightspeed_azure.config.unshown import Unshown
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

KINDS: Mapping[str, str] = {
    "client_secret": "client_secret",
    "client_secret_path": "client_secret",
    "certificate_path": "certificate",
    "federated_token_file": "federated_token_file",
    "managed_identity": "managed_identity",
    "azure_cli": "azure_cli",
    "default": "default",
    "credential": "credential",
}
"""Each key that chooses how to sign in, and the name of the kind it chooses."""

_APPLICATION_KINDS = ("client_secret", "certificate", "federated_token_file")

# In the order in which azure-identity's DefaultAzureCredential asks for them.
_VARIABLES = {
    "client_secret": "AZURE_CLIENT_SECRET",
    "certificate_path": "AZURE_CLIENT_CERTIFICATE_PATH",
    "federated_token_file": "AZURE_FEDERATED_TOKEN_FILE",
}

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


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
    credential: Annotated[str | None, BeforeValidator(plain_text)] = None
    scope: Annotated[str, BeforeValidator(scope_name)] = CLOUDS["public"].scope
    cloud: Annotated[CloudName, BeforeValidator(plain_text)] = "public"
    authority_host: Annotated[str, BeforeValidator(authority_url)] = CLOUDS["public"].authority
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    prefetch: Annotated[StrictBool, BeforeValidator(boolean)] = False
    deadline: Seconds = 15.0
    provider_id: Annotated[str | None, BeforeValidator(name)] = None

    def __init__(self, /, *, environ: Mapping[str, str] | None = None, **data: Any) -> None:
        data = Unshown(filled(data, os.environ if environ is None else environ))
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
        factory = given.get("credential")
        if isinstance(factory, str) and not _FACTORY.fullmatch(factory):
            text = 'must name a function; write it as "package.module:factory"'
            problems.append(Problem(("credential",), text))
        return problems

    @property
    def credential_kind(self) -> str:
        """How this identity signs in: one of the values of `KINDS`."""
        return KINDS[_chosen(self.__dict__)[0]]

    @property
    def is_private_authority(self) -> bool:
        """Whether the authority is none of Microsoft's, so that Microsoft cannot vouch for it."""
        return cloud_of(self.authority_host) is None

    @property
    def cache_key(self) -> tuple[str, ...]:
        """What a token depends on, without secrets: the same key, the same token."""
        kind = self.credential_kind
        which = {
            "managed_identity": str(self.managed_identity),
            "credential": self.credential or "",
        }.get(kind, "")
        return (
            kind,
            self.tenant_id or "",
            self.client_id or "",
            self.authority_host,
            self.scope,
            which,
        )


def filled(data: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the block with what it leaves open taken from the environment and from its cloud."""
    given = {name: value for name, value in data.items() if value is not None}
    chosen = _chosen(given)
    if not chosen:
        for key, variable in _VARIABLES.items():
            if environ.get(variable):
                given[key] = environ[variable]
                chosen = [key]
                _fill_certificate(given, key, environ)
                break
    if {KINDS[key] for key in chosen} & {*_APPLICATION_KINDS}:
        for key, variable in (("tenant_id", "AZURE_TENANT_ID"), ("client_id", "AZURE_CLIENT_ID")):
            if environ.get(variable):
                given.setdefault(key, environ[variable])
    _fill_cloud(given, environ)
    return given


def _fill_certificate(given: dict[str, Any], key: str, environ: Mapping[str, str]) -> None:
    """Take the password and the chain from the environment when the certificate came from there."""
    if key != "certificate_path":
        return
    if environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD"):
        given.setdefault("certificate_password", environ["AZURE_CLIENT_CERTIFICATE_PASSWORD"])
    if environ.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"):
        chain = environ["AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"].lower() in ("1", "true")
        given.setdefault("send_certificate_chain", chain)


def _fill_cloud(given: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Settle authority, cloud and scope, each of which may follow from another."""
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
        given.setdefault("scope", cloud.scope)


def _chosen(given: Mapping[str, Any]) -> list[str]:
    """Return the keys that choose a kind; `false` and `'false'` choose nothing."""
    return [key for key in KINDS if str(given.get(key)).lower() not in ("none", "false")]


def _is_text(given: Mapping[str, Any], key: str) -> bool:
    return isinstance(given.get(key), str)


def _check_kinds(given: Mapping[str, Any], misspelt: set[str | None]) -> list[Problem]:
    """Return what is wrong with the choice of a credential.

    Args:
        given: the keys of the block.
        misspelt: the keys that seem to be meant by unknown ones; they are not called missing.
    """
    problems: list[Problem] = []
    chosen = _chosen(given)
    if not chosen and not misspelt & {*KINDS}:
        text = (
            f"says no way to sign in; give one of {', '.join(KINDS)}, "
            f"or set one of {', '.join(_VARIABLES.values())}"
        )
        problems.append(Problem((), text))
    elif len(chosen) > 1:
        text = f"{' and '.join(chosen)} exclude each other; keep one of them"
        problems.append(Problem((chosen[1],), text))
    kinds = {KINDS[key] for key in chosen}
    if chosen and "certificate_path" not in chosen:
        problems += [
            Problem((key,), "belongs to certificate_path; add that, or remove this")
            for key in ("certificate_password", "send_certificate_chain")
            if given.get(key)
        ]
    if len(chosen) == 1 and kinds & {*_APPLICATION_KINDS}:
        for key, variable in (("tenant_id", "AZURE_TENANT_ID"), ("client_id", "AZURE_CLIENT_ID")):
            if key not in given and key not in misspelt:
                problems.append(Problem((key,), f"is missing; add it, or set {variable}"))
    if kinds == {"managed_identity"} and "client_id" in given:
        text = "does not choose a managed identity; write managed_identity: {client_id: …}"
        problems.append(Problem(("client_id",), text))
    return problems
