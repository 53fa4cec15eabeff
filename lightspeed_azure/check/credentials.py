"""The keys of other providers: whether each has a value, and whether the stack reads it."""

import asyncio
from collections.abc import Iterator, Mapping

from lightspeed_azure.check.finding import Finding, ill, look, of_problem, well
from lightspeed_azure.check.stack import StackService
from lightspeed_azure.clients.generation import LLAMA_STACK
from lightspeed_azure.config import Configuration, ProviderCredential
from lightspeed_azure.config.provider_fields import key_field
from lightspeed_azure.errors import LightspeedAzureError, TokenError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials, ProviderKeys
from lightspeed_azure.provider_data import encode
from lightspeed_azure.secrets import is_mounted_alone
from lightspeed_azure.tokens.manager import AzureEntraIDManager

KEY = "key"

_WHERE = {
    "env": "variable {0.env} (a rotated key takes a restart)",
    "value": "in the configuration (a rotated key takes a restart)",
    "entra": "an Entra ID token, renewed before it expires",
    "google": "a Google access token by {0.google}, which is read again for each request",
    "plugin": "resolver {0.plugin}",
    "file": "{0.file}, which is read again for each request",
}


def of_credentials(
    config: Configuration,
    manager: AzureEntraIDManager,
    providers: Mapping[str, str],
    family: str,
) -> Iterator[Finding]:
    """Yield whether each source has a value now; a resolver and Google are asked for one.

    Args:
        config: the service's; its resolvers are registered.
        manager: whose tokens are asked for.
        providers: provider_id → provider_type; empty when the stack's providers are not known.
        family: the stack's, `llama-stack` or `ogx`.
    """
    for entry in config.provider_credentials:
        question = f"{KEY} ({entry.name})"
        asked = [(entry.provider_id or "", entry.field or "")]
        if entry.source.kind == "plugin":  # a resolver is asked for a provider by name
            asked = _asked_for(entry, providers, family)
        if not asked:
            found = "the resolver was not asked: the type of the provider, and "
            found += "so the field, is not known here"
            yield look(question, found, "Add field, or check again while the stack runs")
        for provider_id, field in asked:
            yield asyncio.run(_of_source(entry, question, manager, provider_id, field))


def _asked_for(
    entry: ProviderCredential, providers: Mapping[str, str], family: str
) -> list[tuple[str, str]]:
    """Return for which providers and fields a resolver will be asked; none when that is not known."""
    names = [entry.provider_id] if entry.provider_id else []
    names = names or [name for name, kind in providers.items() if kind == entry.provider_type]
    fields = ((name, entry.provider_type or providers.get(name, "")) for name in names)
    found = ((name, entry.field or key_field(kind, family)) for name, kind in fields)
    return [(name, field) for name, field in found if field]


async def _of_source(
    entry: ProviderCredential,
    question: str,
    manager: AzureEntraIDManager,
    provider_id: str,
    field: str,
) -> Finding:
    # What has no value may be a secret in the place of a name, so only what has one is shown.
    where = "source" if entry.source.kind in ("env", "plugin") else _shown(entry)
    credentials = ProviderCredentials([entry], manager=lambda: manager)
    (source,) = credentials.sources
    try:
        value = await source.get(provider_id, field)
    except TokenError as error:
        return ill(question, f"{where}: {error.message}", error.cure or "Look into its service")
    except LightspeedAzureError as error:
        return of_problem(question, f"{where}: {error}")
    finally:
        credentials.close()
    fault = source.fault
    if value is None and entry.optional:
        return look(question, f"{fault}; requests go out without it", "It is optional")
    if value is None:
        return ill(question, f"no value: {fault}", "Its provider's requests fail until it has one")
    path = entry.source.file or entry.source.google
    if path is not None and is_mounted_alone(path):
        return look(
            question,
            f"{path} is on a subPath mount, or mounted as a single file: it never changes",
            "Mount the whole volume, so that a rotated key arrives without a restart",
        )
    return well(question, _shown(entry))


def _shown(entry: ProviderCredential) -> str:
    return _WHERE[entry.source.kind].format(entry.source)


def of_fields(
    providers: Mapping[str, str], family: str, credentials: ProviderCredentials
) -> Iterator[Finding]:
    """Yield which keys do not fit the stack's providers.

    Args:
        providers: provider_id → provider_type; empty when the stack's providers are not known.
        family: the stack's, `llama-stack` or `ogx`.
        credentials: the keys.
    """
    for problem in credentials.problems(providers, family) if providers else ():
        yield of_problem(KEY, problem)


def keys_for(
    stack: StackService, credentials: ProviderCredentials, model: str
) -> tuple[str, ProviderKeys] | None:
    """Return the provider of a model and what its requests carry; None where nothing is configured.

    Raises:
        InvalidConfigurationError: a field is configured that the provider does not read.
    """
    provider = stack.models.get(model)
    if provider is None:
        names = [name for name in stack.providers if model.startswith(f"{name}/")]
        provider = max(names, key=len, default="")
    kind = stack.providers.get(provider)
    if kind is None:
        return None
    keys = credentials.keys(provider, kind, stack.endpoints.get(provider), _family(stack))
    return None if keys is None else (provider, keys)


def header_of(keys: ProviderKeys) -> str:
    """Return the header's value with the keys as they are now.

    Raises:
        TokenError: one cannot be had.
    """
    return encode(asyncio.run(keys.data()))


def _family(stack: StackService) -> str:
    return (stack.family or LLAMA_STACK).family
