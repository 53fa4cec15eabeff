"""The files that a configuration names, and whether they can be used."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from lightspeed_azure.config.block import Block, Problem
from lightspeed_azure.config.credential_kinds import CLIENT_SECRET_NAME
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.provider_credentials import ProviderCredential
from lightspeed_azure.config.provider_fields import LONGEST_KEY
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import SecretFile

KEY_NAME = "apitoken"
"""The file in a directory with a provider's key, as OpenShift Lightspeed calls it."""


def check_files(block: Block) -> Iterator[Problem]:
    """Yield the problems of the files that a block names; waits for the disk."""
    secret = block.secret_file() if isinstance(block, AzureEntraIdConfiguration) else None
    if secret:
        try:
            secret.read_bytes()
        except InvalidConfigurationError as error:
            text = str(error).removeprefix(f"{secret.key}: ")
            yield Problem((secret.key,), text)
    ca_bundle = getattr(block, "ca_bundle", None)
    if ca_bundle:
        fault = _fault(ca_bundle, b"-----BEGIN CERTIFICATE-----")
        if fault:
            yield Problem(("ca_bundle",), fault)
    plain = directories = ["token_path"]
    if getattr(block, "use_as_library_client", False):
        plain = [*plain, "library_client_config_path"]
        yield from _check_profile(block)
    for name in plain:
        path = getattr(block, name, None)
        is_folder = name in directories and path and os.path.isdir(path)  # noqa: PTH112 - never raises
        fault = _fault(path, b"") if path and not is_folder else ""
        if fault:
            yield Problem((name,), fault)
    options = getattr(block, "options", None)
    if isinstance(options, Block):  # of a resolver
        for problem in check_files(options):
            yield problem.below(("options",))


def _check_profile(block: Block) -> Iterator[Problem]:
    unified = getattr(block, "config", None)
    fault = _fault(unified.profile, b"") if unified and unified.profile else ""
    if fault:
        yield Problem(("config", "profile"), fault)


def key_file(credential: ProviderCredential) -> SecretFile | None:
    """Return the file that holds a provider's key, or None when it comes from elsewhere."""
    source = credential.source
    if source.file:
        key = f"provider_credentials {credential.name} file"
        return SecretFile(source.file, default_name=KEY_NAME, key=key, check=_check_key)
    if source.google:
        key = f"provider_credentials {credential.name} google"
        return SecretFile(
            source.google, default_name=KEY_NAME, key=key, check=_check_google, binary=True
        )
    return None


def check_source(credential: ProviderCredential, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield why a source has no value now; waits for the disk."""
    if credential.optional:
        return
    file = key_file(credential)
    if file:
        try:
            file.read_bytes()
        except InvalidConfigurationError as error:
            text = str(error).removeprefix(f"{file.key}: ")
            if os.path.isfile(file.path / CLIENT_SECRET_NAME):  # noqa: PTH113 - never raises
                text = (
                    f"{file.path}: holds an identity, not a key; write azure_entra_id with "
                    f"tenant_id, client_id and client_secret_path: {file.path} in the place of "
                    "this entry"
                )
            yield Problem(("source", credential.source.kind), text)
    name = credential.source.env
    if name and not environ.get(name, "").strip():
        state, give = ("empty", "give it a value") if name in environ else ("not set", "set it")
        text = f"names a variable that is {state}; {give}, or add optional: true"
        yield Problem(("source", "env"), text)


def _check_key(content: bytes) -> None:
    """Refuse content that cannot be a key, or that does not fit into a header."""
    if len(content) > LONGEST_KEY:
        raise ValueError(
            f"has more than {LONGEST_KEY} bytes; name the file that holds the key alone"
        )
    if not content.isascii():
        raise ValueError("holds characters that no key has; write the key alone, in ASCII")
    if content.startswith(b"{"):
        raise ValueError("holds JSON; for a Google credential write source: {google: …}")


def _check_google(content: bytes) -> None:
    """Refuse content that is neither a Google credential nor an access token."""
    text = content.strip()
    if not text.startswith(b"{"):
        if not text or len(text) > LONGEST_KEY or not text.isascii() or len(text.split()) != 1:
            raise ValueError("is neither the JSON of a Google credential nor an access token")
        return
    try:
        kind = json.loads(text).get("type")
    except (ValueError, AttributeError, RecursionError):
        raise ValueError("is not whole: it is no JSON; write the credential again") from None
    if kind not in ("service_account", "authorized_user"):
        raise ValueError(
            "has a type other than service_account and authorized_user; give one of these, or "
            "write an access token into it"
        )


def _fault(path: Path, contained: bytes) -> str:
    """Return the problem of a plain file, or ""."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "there is no such file; correct the path, or create it"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        return f"cannot be read ({reason}); check its type and its rights"
    if contained not in content:
        return "holds no certificate in PEM; give the certificates of the authority's issuer"
    return ""
