"""A key for a service or a provider: from resolvers, a file, the environment, or `.env`."""

import os
import re
from collections.abc import Iterable

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.dotenv_file import DotenvFile
from lightspeed_azure.keys.hook import Point, extensible
from lightspeed_azure.keys.hook_call import Fault, credential
from lightspeed_azure.secret_file import SecretFile


def environment_name(service: str) -> str:
    """Return the variable's name: `azure-openai` is in AZURE_OPENAI_API_KEY.

    Whatever a name of POSIX cannot hold (hyphens, dots, a digit in front) becomes an underscore.

    Args:
        service: a service, or a Llama Stack `provider_id`.

    Raises:
        InvalidConfigurationError: there is no letter and no digit in it.
    """
    text = re.sub(r"[^A-Z0-9]", "_", service.upper())
    if not text.strip("_"):
        raise InvalidConfigurationError(
            "a service needs a name with a letter or a digit of ASCII in it, such as azure-openai"
        )
    return f"{'_' if text[0].isdigit() else ''}{text}_API_KEY"


def check_distinct(services: Iterable[str]) -> None:
    """Refuse services whose keys would be in one variable.

    Raises:
        InvalidConfigurationError: with one line for each such variable.
    """
    found: dict[str, list[str]] = {}
    for service in dict.fromkeys(services):
        found.setdefault(environment_name(service), []).append(service)
    problems = [collision(name, same) for name, same in found.items() if len(same) > 1]
    if problems:
        raise InvalidConfigurationError(*problems)


def collision(name: str, services: Iterable[str]) -> str:
    """Return the words for services that share a variable."""
    return f"{' and '.join(services)} both read {name}; rename one of them"


FILE_NAME = "apitoken"
"""The file of a key in a directory, as OpenShift Lightspeed calls it."""

_MOST = 1024
"""Services whose names are remembered, so that two that share a variable are noticed."""

_KEY_FIELD = re.compile(r"(^|_)(api_key|api_token|(access|bearer)_token)(_|$)")


@extensible(name="get_api_key", check=credential)
def get_api_key(service: str) -> SecretStr | None:
    """Return the key of a service, None when nobody has one.

    Resolvers are asked first. Then come, for `azure-openai`: the file that AZURE_OPENAI_API_KEY_FILE
    names (or `apitoken` in that directory), the variable AZURE_OPENAI_API_KEY, and the same name in
    `.env` of the working directory. Files are read again each time, which takes about 10 µs.

    Args:
        service: the service, or a Llama Stack `provider_id`.

    Raises:
        CredentialResolutionError: a resolver failed whose `on_error` is `fail`.
        InvalidConfigurationError: what is there is no key, or two services share the variable.
    """
    return _look_up(service)


@extensible(name="get_api_key", check=credential)
async def aget_api_key(service: str) -> SecretStr | None:
    """Do what `get_api_key` does without holding up the event loop."""
    return _look_up(service)


def resolve_credential(
    provider_id: str, field: str, *, resolver: str | None = None
) -> SecretStr | None:
    """Return what belongs into a provider-data field of a provider, None when nobody has it.

    Resolvers are asked first; then, for a field that is a key (`openai_api_key`,
    `vllm_api_token`, …), all that `get_api_key(provider_id)` looks at.

    Args:
        provider_id: of Llama Stack.
        field: the provider-data field, such as "openai_api_key".
        resolver: the name of the one resolver to ask; None: all.

    Raises:
        CredentialResolutionError: a resolver failed whose `on_error` is `fail`.
        InvalidConfigurationError: there is no such resolver, or what is there is no key.
    """
    if not _SYNC.chain and resolver is None:
        return _resolve(provider_id, field)
    found: SecretStr | None = _SYNC.call((provider_id, field), {}, resolver)
    return found


async def aresolve_credential(
    provider_id: str, field: str, *, resolver: str | None = None
) -> SecretStr | None:
    """Do what `resolve_credential` does without holding up the event loop."""
    if not _ASYNC.chain and resolver is None:
        return _resolve(provider_id, field)
    found: SecretStr | None = await _ASYNC.acall((provider_id, field), {}, resolver)
    return found


def is_key_field(field: str) -> bool:
    """Return whether a provider-data field holds a key, and not a URL or a project."""
    return bool(_KEY_FIELD.search(field))


def _resolve(provider_id: str, field: str) -> SecretStr | None:
    return _look_up(provider_id) if is_key_field(field) else None


async def _aresolve(provider_id: str, field: str) -> SecretStr | None:
    return _resolve(provider_id, field)


_SYNC = Point("resolve_credential", _resolve, check=credential)
_ASYNC = Point("resolve_credential", _aresolve, check=credential)

_lock = ForkLock()  # guards the next two
_services: dict[str, str] = {}  # by the name of their variable
_files: dict[tuple[str, str], SecretFile] = {}
_dotenv = DotenvFile()


def _look_up(service: str) -> SecretStr | None:
    name = environment_name(service)
    known = _services.get(name)
    if known != service:
        _remember(service, name)
    path = os.environ.get(f"{name}_FILE")
    if path:
        return _key(_file(name, path).read(), f"{name}_FILE")
    text, where = _variable(name), name
    if not text.get_secret_value():
        text, where = _line(name), f"{_dotenv.path}: {name}"
    return _key(text, where) if text.get_secret_value() else None


def _variable(name: str) -> SecretStr:
    return SecretStr((os.environ.get(name) or "").strip())


def _line(name: str) -> SecretStr:
    return SecretStr((_dotenv.get(name) or "").strip())


def _remember(service: str, name: str) -> None:
    """Notice when two services read one variable: one of them would get the other's key."""
    with _lock:
        known = _services.setdefault(name, service)
        if len(_services) > _MOST:
            _services.pop(next(iter(_services)))
    if known != service:
        raise InvalidConfigurationError(collision(name, (known, service)))


def _file(name: str, path: str) -> SecretFile:
    with _lock:
        if (name, path) not in _files:
            if len(_files) >= _MOST:
                _files.clear()
            _files[name, path] = SecretFile(path, default_name=FILE_NAME, key=f"{name}_FILE")
        return _files[name, path]


def _key(text: SecretStr, where: str) -> SecretStr:
    checked = credential(text)
    if isinstance(checked, SecretStr):
        return checked
    what = checked.text.removeprefix("answered with ") if isinstance(checked, Fault) else "nothing"
    raise InvalidConfigurationError(f"{where}: holds {what}")
