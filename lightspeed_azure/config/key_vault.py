"""The options of the resolver `keyvault`: an Azure Key Vault."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.problems import Problem
from lightspeed_azure.config.template import template
from lightspeed_azure.config.values import (
    boolean,
    file_path,
    https_url,
    name,
    plain_text,
    scope_name,
)

_NAME = "{provider_id}-{field}"


def _secret_name(value: Any) -> str:
    text = template(value)
    if not re.fullmatch(r"[A-Za-z0-9-]*", re.sub(r"\{(provider_id|field)\}", "", text)):
        raise ValueError("may hold letters, digits, hyphens, {provider_id} and {field}")
    return text


def _versions(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of secret names to versions")  # noqa: TRY004
    versions = {plain_text(name): plain_text(version) for name, version in value.items()}
    if not all(re.fullmatch(r"[0-9a-f]{32}", version) for version in versions.values()):
        raise ValueError("must give each secret a version of 32 hex digits, in quotes")
    return versions


def _vault_url(value: Any) -> str:
    text = https_url(value)
    if urlsplit(text).path:
        raise ValueError("must name the vault alone, such as https://my-vault.vault.azure.net")
    return text


class KeyVaultConfiguration(Block):
    """An Azure Key Vault, read with an identity of `azure_entra_id`.

    Secret names have letters, digits and hyphens alone, so underscores and dots become hyphens
    (https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates).
    """

    url: Annotated[str, BeforeValidator(_vault_url)]
    identity: Annotated[str | None, BeforeValidator(name)] = None
    secret_name: Annotated[str, BeforeValidator(_secret_name)] = _NAME
    versions: Annotated[dict[str, str], BeforeValidator(_versions)] = Field(default={})
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    scope: Annotated[str | None, BeforeValidator(scope_name)] = None
    verify_challenge_resource: Annotated[StrictBool, BeforeValidator(boolean)] = True

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        name = given.get("secret_name", _NAME)
        if isinstance(name, str) and "{provider_id}" not in name:
            text = "must hold {provider_id}, or all providers would get one key"
            return [Problem(("secret_name",), text)]
        return []
