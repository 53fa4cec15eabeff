"""Checks of the keys of other providers, and of the resolvers that supply them."""

import asyncio
from collections.abc import Iterator, Mapping

from lightspeed_azure.check.finding import Finding, failed, from_problem, ok, warning
from lightspeed_azure.config import Configuration, ProviderCredential
from lightspeed_azure.config.provider_fields import key_field
from lightspeed_azure.errors import LightspeedAzureError, TokenError
from lightspeed_azure.keys import ResolverStatus, status
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.secrets import is_mounted_alone
from lightspeed_azure.tokens.manager import AzureEntraIDManager

KEY, RESOLVER = "key", "resolver"

_WHERE = {
    "env": "variable {0.env} (a rotated key takes a restart)",
    "value": "in the configuration (a rotated key takes a restart)",
    "entra": "an Entra ID token, renewed before it expires",
    "google": "a Google access token by {0.google}, which is read again for each request",
    "plugin": "resolver {0.plugin}",
    "file": "{0.file}, which is read again for each request",
}


_CURES = {
    "timeout": "Check that its service is up, or raise its timeout",
    "unloadable": "Correct its block, or install its package",
}


def check_keys(
    config: Configuration,
    manager: AzureEntraIDManager,
    providers: Mapping[str, str],
    family: str,
) -> Iterator[Finding]:
    """Check whether each source has a value now; resolvers and Google are asked for one.

    Args:
        config: the service's configuration; its resolvers are registered.
        manager: supplies the tokens.
        providers: provider_id → provider_type; empty when the stack's providers are not known.
        family: the stack's, `llama-stack` or `ogx`.
    """
    for entry in config.provider_credentials:
        question = f"{KEY} ({entry.name})"
        asked = [(entry.provider_id or "", entry.field or "")]
        if entry.source.kind == "plugin":  # a resolver is asked for a provider by name
            asked = _asked_for(entry, providers, family)
        if not asked:
            found = (
                "the resolver was not asked: the type of the provider, and so the field, is not "
                "known here"
            )
            yield warning(question, found, "Add field, or check again while the stack runs")
        for provider_id, field in asked:
            yield asyncio.run(_check_source(entry, question, manager, provider_id, field))


def _asked_for(
    entry: ProviderCredential, providers: Mapping[str, str], family: str
) -> list[tuple[str, str]]:
    """Return the providers and fields that a resolver is asked for; none when they are not known."""
    names = [entry.provider_id] if entry.provider_id else []
    names = names or [name for name, kind in providers.items() if kind == entry.provider_type]
    fields = ((name, entry.provider_type or providers.get(name, "")) for name in names)
    found = ((name, entry.field or key_field(kind, family)) for name, kind in fields)
    return [(name, field) for name, field in found if field]


async def _check_source(
    entry: ProviderCredential,
    question: str,
    manager: AzureEntraIDManager,
    provider_id: str,
    field: str,
) -> Finding:
    # A name without a value may be a secret in the wrong place, so it is not shown.
    where = "source" if entry.source.kind in ("env", "plugin") else _shown(entry)
    credentials = ProviderCredentials([entry], manager=lambda: manager)
    (source,) = credentials.sources
    try:
        value = await source.get(provider_id, field)
    except TokenError as error:
        return failed(question, f"{where}: {error.message}", error.cure or "Check its service")
    except LightspeedAzureError as error:
        return from_problem(question, f"{where}: {error}")
    finally:
        credentials.close()
    fault = source.fault
    if value is None and entry.optional:
        return warning(question, f"{fault}; requests go out without it", "It is optional")
    if value is None:
        return failed(
            question, f"no value: {fault}", "Its provider's requests fail until it has one"
        )
    path = entry.source.file or entry.source.google
    if path is not None and is_mounted_alone(path):
        return warning(
            question,
            f"{path} is on a subPath mount, or mounted as a single file: it never changes",
            "Mount the whole volume, so that a rotated key arrives without a restart",
        )
    return ok(question, _shown(entry))


def _shown(entry: ProviderCredential) -> str:
    return _WHERE[entry.source.kind].format(entry.source)


def check_fields(
    providers: Mapping[str, str], family: str, credentials: ProviderCredentials
) -> Iterator[Finding]:
    """Check that the keys fit the stack's providers.

    Args:
        providers: provider_id → provider_type; empty when the stack's providers are not known.
        family: the stack's, `llama-stack` or `ogx`.
        credentials: the keys.
    """
    for problem in credentials.problems(providers, family) if providers else ():
        yield from_problem(KEY, problem)


def check_resolvers() -> Iterator[Finding]:
    """Report the health of each resolver after the keys were looked up; sends no request."""
    for each in status():
        yield _check_resolver(each)


def _check_resolver(each: ResolverStatus) -> Finding:
    question = f"{RESOLVER} ({each.name})"
    if each.last_error:
        cure = _CURES.get(each.last_error, "Repair its service; until then on_error decides")
        return failed(question, each.last_error_text, cure)
    if not each.answers + each.passes + each.failures:
        cure = f"Write source: {{plugin: {each.name}}} where its keys are wanted"
        return warning(question, f"of the {each.source}, was not asked", cure)
    if not each.answers:
        cure = "Compare its keys with those asked for; ignore this if another resolver has them"
        where = f": {each.last_pass}" if each.last_pass else ""
        return warning(question, f"has no key that is asked for{where}", cure)
    return ok(question, f"answers; asked {each.answers + each.passes} times")
