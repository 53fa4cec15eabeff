"""The options of the resolvers `keyvault` (Azure Key Vault) and `vault` (OpenBao, HashiCorp Vault)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, StrictBool

from lightspeed_azure.config.block import Block, Problem
from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.config.values import (
    boolean,
    file_path,
    http_url,
    https_url,
    name,
    plain_text,
    scope_name,
    secret_text,
)

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def template(value: Any) -> str:
    """Return a text whose only placeholders are `{provider_id}` and `{field}`."""
    text = value if isinstance(value, str) else ""
    if "$" in text:  # report it as a variable, not as an unbalanced brace
        plain_text(text)
    if set(_PLACEHOLDER.findall(text)) - {"provider_id", "field"}:
        raise ValueError("may hold {provider_id} and {field}, and no other placeholder")
    if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
        raise ValueError("has a brace too many; placeholders are {provider_id} and {field}")
    return plain_text(value)


def filled(text: str, *, provider_id: str, field: str) -> str:
    """Return a template with its placeholders replaced."""
    names = {"provider_id": provider_id, "field": field}
    return _PLACEHOLDER.sub(lambda match: names[match.group(1)], text)


_DEFAULT_NAME = "{provider_id}-{field}"


def _secret_name(value: Any) -> str:
    text = template(value)
    if not re.fullmatch(r"[A-Za-z0-9-]*", re.sub(r"\{(provider_id|field)\}", "", text)):
        raise ValueError("may hold letters, digits, hyphens, {provider_id} and {field}")
    return text


def _secret_versions(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of secret names to versions")  # noqa: TRY004
    versions = {plain_text(name): plain_text(version) for name, version in value.items()}
    if not all(re.fullmatch(r"[0-9a-f]{32}", version) for version in versions.values()):
        raise ValueError("must give each secret a version of 32 hex digits, in quotes")
    return versions


def _key_vault_url(value: Any) -> str:
    text = https_url(value)
    if urlsplit(text).path:
        raise ValueError("must name the vault alone, such as https://my-vault.vault.azure.net")
    return text


class KeyVaultConfiguration(Block):
    """An Azure Key Vault, read with an identity of `azure_entra_id`.

    Secret names have letters, digits and hyphens alone, so underscores and dots become hyphens
    (https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates).
    """

    url: Annotated[str, BeforeValidator(_key_vault_url)]
    identity: Annotated[str | None, BeforeValidator(name)] = None
    secret_name: Annotated[str, BeforeValidator(_secret_name)] = _DEFAULT_NAME
    versions: Annotated[dict[str, str], BeforeValidator(_secret_versions)] = Field(default={})
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    scope: Annotated[str | None, BeforeValidator(scope_name)] = None
    verify_challenge_resource: Annotated[StrictBool, BeforeValidator(boolean)] = True

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        name = given.get("secret_name", _DEFAULT_NAME)
        if isinstance(name, str) and "{provider_id}" not in name:
            text = "must hold {provider_id}, or all providers would get one key"
            return [Problem(("secret_name",), text)]
        return []


SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where Kubernetes mounts the token of a pod's service account."""

_WAYS = ("token", "token_path", "kubernetes")


def _vault_url(value: Any) -> str:
    text = http_url(value)
    if re.search(r"/(v1|ui)(/|$)", urlsplit(text).path):
        raise ValueError("must end before /v1 or /ui: give the address of Vault alone")
    return text


def _place(given: str) -> str:
    """Return a path below Vault's API, as it is written there: without slashes around it."""
    text = given.strip("/")
    if not re.fullmatch(r"[^\s?#%\\]+", text) or {"", ".", ".."} & {*text.split("/")}:
        raise ValueError("must be a path such as team/secret, without spaces, .., ?, # and %")
    return text


def _mount(value: Any) -> str:
    text = _place(plain_text(value))
    if text.endswith("/data") or text.startswith("v1/"):
        raise ValueError("must name the mount alone, such as secret: without v1/ and /data")
    return text


def _login_mount(value: Any) -> str:
    text = _place(plain_text(value))
    if text.startswith("auth/") or text.endswith("/login"):
        raise ValueError("must name the mount alone, such as kubernetes: without auth/ and /login")
    return text


def _path(value: Any) -> str:
    text = _place(template(value))
    if text.startswith(("data/", "v1/")):
        raise ValueError("must begin below the mount: without v1/ and data/, which are added")
    return text


class KubernetesLogin(Block):
    """`kubernetes:` sign in with the pod's service account."""

    role: Annotated[str, BeforeValidator(plain_text)]
    mount: Annotated[str, BeforeValidator(_login_mount)] = "kubernetes"
    token_path: Annotated[Path, BeforeValidator(file_path)] = SERVICE_ACCOUNT_TOKEN


def _kubernetes(value: Any) -> Any:
    if not isinstance(value, Mapping | KubernetesLogin):
        raise ValueError("must be a map with role, as in kubernetes: {role: lightspeed}")  # noqa: TRY004
    return value


def _versions(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of paths to version numbers")  # noqa: TRY004
    numbers = {plain_text(path): str(number) for path, number in value.items()}
    if not all(
        number.isascii() and number.isdigit() and int(number) for number in numbers.values()
    ):
        raise ValueError("must give each path a version number, 1 or more")
    return {path: int(number) for path, number in numbers.items()}


class VaultConfiguration(Block):
    """A KV version 2 engine, and how to sign in to it."""

    url: Annotated[str, BeforeValidator(_vault_url)]
    token: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    token_path: Annotated[Path | None, BeforeValidator(file_path)] = None
    kubernetes: Annotated[KubernetesLogin | None, BeforeValidator(_kubernetes)] = None
    namespace: Annotated[str | None, BeforeValidator(plain_text)] = None
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    allow_insecure: Annotated[StrictBool, BeforeValidator(boolean)] = False
    mount: Annotated[str, BeforeValidator(_mount)] = "secret"
    path: Annotated[str, BeforeValidator(_path)] = "{provider_id}"
    key: Annotated[str, BeforeValidator(template)] = "{field}"
    versions: Annotated[dict[str, int], BeforeValidator(_versions)] = Field(default={})

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        problems = []
        chosen = [key for key in _WAYS if key in given]
        if not chosen:
            problems.append(Problem((), f"says no way to sign in; give one of {', '.join(_WAYS)}"))
        elif len(chosen) > 1:
            text = f"{' and '.join(chosen)} exclude each other; keep one of them"
            problems.append(Problem((chosen[1],), text))
        templates = [str(given.get("path", "{provider_id}")), str(given.get("key", "{field}"))]
        if not any("{provider_id}" in each for each in templates):
            text = "must hold {provider_id}, or all providers would get one key"
            problems.append(Problem(("path",), text))
        return problems + insecure(given)


def insecure(given: Mapping[str, Any]) -> list[Problem]:
    """Refuse to fetch keys over a network in the clear."""
    url = given.get("url")
    if boolean(given.get("allow_insecure", False)) is not False or not isinstance(url, str):
        return []
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
    except ValueError:
        return []  # http_url reports it
    if parts.scheme.lower() != "http" or not host or is_loopback(host):
        return []
    text = "would fetch keys over plain HTTP from another machine; use https"
    return [Problem(("url",), text)]
