"""What a stack's configuration says that works against Entra ID, each with its cure."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from lightspeed_azure.enrichment.document import Path
from lightspeed_azure.enrichment.providers import (
    AZURE_PROVIDER_TYPE,
    DISABLED,
    INFERENCE,
    AzureProvider,
    condition,
    inference_providers,
    registered_models,
    resolved,
    with_environment,
)
from lightspeed_azure.enrichment.references import REFERENCE, malformed_reference


class Note(NamedTuple):
    """Something about one key, without its value.

    Attributes:
        path: which key.
        text: what is so, and what to do about it.
        fatal: whether a stack with this environment would not start.
    """

    path: Path
    text: str
    fatal: bool = False


ENDPOINT = "https://<resource>.openai.azure.com/openai/v1"


def advice(
    tree: Mapping[str, Any],
    azure: Sequence[AzureProvider],
    identities: Sequence[str | None],
    changed: Collection[Path],
    dropped: Collection[Path],
) -> Iterator[Note]:
    """Yield what the operator should look at.

    Args:
        tree: the stack's configuration.
        azure: its Azure providers.
        identities: the `provider_id` of each identity, None for one that serves every provider;
            empty when Entra ID is not configured, and then Azure's providers are left alone.
        changed: the keys named `api_key` that the plan changes.
        dropped: the keys that it removes.
    """
    yield from _reference_notes(tree)
    yield from _other_key_notes(tree)
    if not identities:
        return
    slips = list(_type_notes(tree))
    yield from slips
    if not azure and slips:
        return
    if not azure:
        yield Note(
            INFERENCE,
            "has no provider of type remote::azure, so there is nothing to enrich; add one, or "
            "give the stack's own run.yaml",
        )
        return
    azure = [provider for provider in azure if provider.name != DISABLED]
    for provider in azure:
        yield from _condition_notes(provider)
        yield from _endpoint_notes(provider)
        yield from _key_notes(provider, changed, dropped)
        if provider.config.get("refresh_models") is True:
            yield Note(
                (*provider.path, "config", "refresh_models"),
                "asks Azure for its models again and again, which needs a key; set it to false and "
                "register the models",
            )
    yield from _model_notes(tree, azure)
    yield from _vector_store_notes(tree, azure)
    yield from _identity_notes(azure, identities)


def _type_notes(tree: Mapping[str, Any]) -> Iterator[Note]:
    """Yield the types that are meant to be Azure's, and are none; an external provider may have any."""
    for path, entry in inference_providers(tree):
        written = str(entry.get("provider_type") or "")
        name = written.lower().replace("_", "-").rpartition(":")[2]
        meant = name.startswith("azure") or get_close_matches(name, ["azure"], cutoff=0.8)
        if meant and written != AZURE_PROVIDER_TYPE and not _is_external(tree, entry, written):
            yield Note(
                (*path, "provider_type"),
                f"is none that a stack knows; did you mean {AZURE_PROVIDER_TYPE}?",
                fatal=True,
            )


def _is_external(tree: Mapping[str, Any], entry: Mapping[str, Any], written: str) -> bool:
    return bool("${" in written or entry.get("module") or tree.get("external_providers_dir"))


def _reference_notes(tree: Mapping[str, Any]) -> Iterator[Note]:
    """Yield the values that no stack substitutes although they are meant to be."""
    seen: set[int] = set()  # aliases share their values
    pending: list[tuple[Path, Any]] = [((), tree)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            if problem := malformed_reference(value):
                yield Note(path, problem)
        elif isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            pending += reversed([((*path, key), item) for key, item in inner])


def _other_key_notes(tree: Mapping[str, Any]) -> Iterator[Note]:
    """Yield the keys of other providers without which the stack would not start."""
    for path, entry in inference_providers(tree):
        config = entry.get("config")
        if (
            resolved(entry.get("provider_type")) == AZURE_PROVIDER_TYPE
            or condition(entry.get("provider_id"))
            or not isinstance(config, Mapping)
        ):
            continue
        for key in ("api_key", "api_token", "access_token"):
            match = REFERENCE.fullmatch(str(config.get(key) or "").strip())
            if match and not match[2]:
                yield Note(
                    (*path, "config", key),
                    f"keeps the stack from starting where {match[1]} has no value; write "
                    f"${{env.{match[1]}:=}}, and give requests their key by provider_credentials",
                    fatal=not os.environ.get(match[1]),
                )


def _condition_notes(provider: AzureProvider) -> Iterator[Note]:
    for key in ("provider_id", "provider_type"):
        name = condition(provider.entry.get(key))
        if name:
            cure = "write it without the condition"
            if "KEY" in name:
                cure += ", or make it depend on ${env.AZURE_API_BASE:+…}"
            yield Note(
                (*provider.path, key),
                f"depends on {name}: where that is unset the whole provider vanishes, and its "
                f"models with it; {cure}",
            )


def _endpoint_notes(provider: AzureProvider) -> Iterator[Note]:
    config = provider.config
    path: Path = (*provider.path, "config")
    if "base_url" not in config:
        if "api_base" in config:
            yield Note(
                (*path, "api_base"),
                "is the older name, which the stack no longer reads; rename it to base_url, and "
                f"write {ENDPOINT}",
            )
        else:
            yield Note(path, f"has no base_url, so the stack knows no endpoint; add {ENDPOINT}")
        return
    text = config["base_url"]
    if malformed_reference(str(text)):
        return
    unset = REFERENCE.sub(
        lambda m: m[0] if m[2] or not os.environ.get(m[1]) else "", str(text or "")
    )
    needed = [m[1] for m in REFERENCE.finditer(unset) if not m[2]]
    if needed:
        yield Note(
            (*path, "base_url"),
            f"keeps the stack from starting where {needed[0]} has no value; set it to {ENDPOINT}",
            fatal=True,
        )
    known = resolved(with_environment(text))
    if not text:
        yield Note((*path, "base_url"), f"is empty; write {ENDPOINT}")
    elif known and not REFERENCE.search(known) and not known.rstrip("/").endswith("/openai/v1"):
        yield Note(
            (*path, "base_url"),
            f"does not end in /openai/v1, where Azure's API is; write {ENDPOINT}",
        )


def _key_notes(
    provider: AzureProvider, changed: Collection[Path], dropped: Collection[Path]
) -> Iterator[Note]:
    path: Path = (*provider.path, "config", "api_key")
    key = provider.config.get("api_key")
    if path in dropped or not key or malformed_reference(str(key)):
        return
    needed = [m for m in REFERENCE.finditer(str(key)) if not m[2]]
    if needed and path not in changed:
        yield Note(
            path,
            f"keeps the stack from starting where {needed[0][1]} has no value; "
            f"write ${{env.{needed[0][1]}:=}}, or let this command repair it",
        )
    match = REFERENCE.fullmatch(key) if isinstance(key, str) else None
    if match and match[2] != "+" and not match[3]:
        yield Note(
            path,
            f"is used, silently, whenever a request carries no token and {match[1]} is set where "
            "the stack runs; leave that unset, or remove the key with --drop-api-key",
        )
    else:
        yield Note(
            path,
            "is a static key that the stack falls back to, silently, whenever a request carries no "
            "token; remove it with --drop-api-key",
        )


def _vector_store_notes(tree: Mapping[str, Any], azure: Sequence[AzureProvider]) -> Iterator[Note]:
    """Yield the embedding models that vector stores cannot use: such requests get no token."""
    providers = tree.get("providers")
    if not isinstance(providers, Mapping) or not providers.get("vector_io"):
        return
    names = {provider.name for provider in azure}
    for path, model in registered_models(tree):
        served_by = resolved(with_environment(model.get("provider_id")))
        if model.get("model_type") == "embedding" and served_by in names:
            yield Note(
                path,
                "its embeddings get no token in vector stores, so Azure refuses them; use an "
                "embedding model of another provider for vector stores",
            )


def _model_notes(tree: Mapping[str, Any], azure: Sequence[AzureProvider]) -> Iterator[Note]:
    served = {
        resolved(with_environment(model.get("provider_id"))) for _, model in registered_models(tree)
    }
    if "" in served:  # the only provider serves it
        return
    for provider in azure:
        if provider.name not in served:
            yield Note(
                provider.path,
                "no model of this provider is registered, and without a key the stack cannot list "
                "Azure's; add the deployments to registered_resources.models, or, where "
                "inference.providers describes it, to its allowed_models",
            )


def _identity_notes(
    azure: Sequence[AzureProvider], identities: Sequence[str | None]
) -> Iterator[Note]:
    if None in identities and len(azure) > 1:
        yield Note(
            INFERENCE,
            f"has {len(azure)} Azure providers and one identity for all of them; where "
            "they need different ones, write azure_entra_id as a list, each with its provider_id",
        )
    elif identities and None not in identities:
        served = {resolved(with_environment(name)) for name in identities}
        for provider in azure:
            if provider.name not in served:
                yield Note(
                    provider.path,
                    "no identity serves this provider, so its requests carry no token; add one to "
                    "azure_entra_id with this provider_id",
                )
