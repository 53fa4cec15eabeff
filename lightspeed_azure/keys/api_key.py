"""A key for a service or a provider: from resolvers, a file, the environment, or `.env`."""

import os
import re

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.config.files import KEY_NAME
from lightspeed_azure.config.provider_fields import is_key_field
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.dotenv_file import DotenvFile
from lightspeed_azure.keys.hook import Hook, extensible
from lightspeed_azure.keys.hook_call import ResolverError, key_check
from lightspeed_azure.keys.registry import registries
from lightspeed_azure.secrets import SecretFile

_MOST = 1024
"""Services whose names are remembered, so that two with the same variable are detected."""


@extensible(name="get_api_key", check=key_check)
def get_api_key(service: str) -> SecretStr | None:
    """Return the key of a service, or None if there is none.

    Resolvers are asked first. Then, for `azure-openai`: the file that AZURE_OPENAI_API_KEY_FILE
    names (or `apitoken` in that directory), the variable AZURE_OPENAI_API_KEY, and the same name in
    `.env` of the working directory. Files are read again each time, which takes about 10 µs.

    Args:
        service: the service, or a Llama Stack `provider_id`.

    Raises:
        CredentialResolutionError: a resolver with `on_error: fail` failed.
        InvalidConfigurationError: the value is not a key, or two services share the variable.
    """
    return _look_up(service)


@extensible(name="get_api_key", check=key_check)
async def aget_api_key(service: str) -> SecretStr | None:
    """Do what `get_api_key` does without blocking the event loop."""
    return _look_up(service)


def resolve_credential(
    provider_id: str, field: str, *, resolver: str | None = None
) -> SecretStr | None:
    """Return the value for a provider-data field of a provider, or None if there is none.

    Resolvers are asked first; then, for a field that is a key (`openai_api_key`,
    `vllm_api_token`, …), the places where `get_api_key(provider_id)` looks.

    Args:
        provider_id: of Llama Stack.
        field: the provider-data field, such as "openai_api_key".
        resolver: the name of the one resolver to ask; None: all.

    Raises:
        CredentialResolutionError: a resolver with `on_error: fail` failed.
        InvalidConfigurationError: the resolver does not exist, or the value is not a key.
    """
    if resolver is None and _SYNC.known.none_at is registries.mark:
        return _resolve(provider_id, field)
    found: SecretStr | None = _SYNC.call((provider_id, field), {}, resolver)
    return found


async def aresolve_credential(
    provider_id: str, field: str, *, resolver: str | None = None
) -> SecretStr | None:
    """Do what `resolve_credential` does without blocking the event loop."""
    if resolver is None and _ASYNC.known.none_at is registries.mark:
        return _resolve(provider_id, field)
    found: SecretStr | None = await _ASYNC.acall((provider_id, field), {}, resolver)
    return found


def environment_name(service: str) -> str:
    """Return the variable for a service's key: AZURE_OPENAI_API_KEY for `azure-openai`.

    Characters that a POSIX name cannot contain (hyphens, dots, a leading digit) become underscores.

    Args:
        service: a service, or a Llama Stack `provider_id`.

    Raises:
        InvalidConfigurationError: the name has no ASCII letter or digit.
    """
    text = re.sub(r"[^A-Z0-9]", "_", service.upper())
    if not text.strip("_"):
        raise InvalidConfigurationError(
            "a service needs a name with a letter or a digit of ASCII in it, such as azure-openai"
        )
    return f"{'_' if text[0].isdigit() else ''}{text}_API_KEY"


def _resolve(provider_id: str, field: str) -> SecretStr | None:
    return _look_up(provider_id) if is_key_field(field) else None


async def _aresolve(provider_id: str, field: str) -> SecretStr | None:
    return _resolve(provider_id, field)


_SYNC = Hook("resolve_credential", _resolve, check=key_check)
_ASYNC = Hook("resolve_credential", _aresolve, check=key_check)

_lock = ForkLock()  # guards the next two
_services: dict[str, str] = {}  # by the name of their variable
_files: dict[tuple[str, str], SecretFile] = {}
_dotenv = DotenvFile()


def _look_up(service: str) -> SecretStr | None:
    name = environment_name(service)
    if _services.get(name) != service:
        _remember(service, name)
    path = os.environ.get(f"{name}_FILE")
    if path:
        return _key(_file(name, path).read(), f"{name}_FILE")
    text, where = SecretStr((os.environ.get(name) or "").strip()), name
    if not text.get_secret_value():
        text, where = SecretStr((_dotenv.get(name) or "").strip()), f"{_dotenv.path}: {name}"
    return _key(text, where) if text.get_secret_value() else None


def _remember(service: str, name: str) -> None:
    """Detect two services with one variable: one of them would get the other's key."""
    with _lock:
        known = _services.setdefault(name, service)
        if len(_services) > _MOST:
            _services.pop(next(iter(_services)))
    if known != service:
        raise InvalidConfigurationError(
            f"{known} and {service} both read {name}; rename one of them"
        )


def _file(name: str, path: str) -> SecretFile:
    with _lock:
        if (name, path) not in _files:
            if len(_files) >= _MOST:
                _files.clear()
            _files[name, path] = SecretFile(path, default_name=KEY_NAME, key=f"{name}_FILE")
        return _files[name, path]


def _key(text: SecretStr, where: str) -> SecretStr:
    checked = key_check(text)
    if isinstance(checked, SecretStr):
        return checked
    what = checked.text if isinstance(checked, ResolverError) else ""
    raise InvalidConfigurationError(f"{where}: holds {what.removeprefix('answered with ')}")
