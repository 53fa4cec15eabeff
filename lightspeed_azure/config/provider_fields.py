"""Which provider-data fields each provider of a stack reads.

The table is that of the stacks' own validators (`provider_data_validator` in
llama_stack/providers/registry and ogx/providers/registry); a test in each environment compares.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

_BOTH: Mapping[str, tuple[str, ...]] = {
    "remote::anthropic": ("anthropic_api_key",),
    "remote::azure": ("azure_api_key", "azure_api_base", "azure_api_version", "azure_api_type"),
    "remote::bing-search": ("bing_search_api_key",),
    "remote::brave-search": ("brave_search_api_key",),
    "remote::cerebras": ("cerebras_api_key",),
    "remote::databricks": ("databricks_api_token",),
    "remote::fireworks": ("fireworks_api_key",),
    "remote::gemini": ("gemini_api_key",),
    "remote::groq": ("groq_api_key",),
    "remote::llama-openai-compat": ("llama_api_key",),
    "remote::model-context-protocol": ("mcp_headers",),
    "remote::nvidia": ("nvidia_api_key",),
    "remote::oci": (
        "oci_auth_type",
        "oci_region",
        "oci_compartment_id",
        "oci_config_file_path",
        "oci_config_profile",
    ),
    "remote::openai": ("openai_api_key",),
    "remote::passthrough": ("passthrough_api_key", "passthrough_url"),
    "remote::runpod": ("runpod_api_token",),
    "remote::sambanova": ("sambanova_api_key",),
    "remote::tavily-search": ("tavily_search_api_key",),
    "remote::together": ("together_api_key",),
    "remote::vertexai": ("vertex_access_token", "vertex_project", "vertex_location"),
    "remote::vllm": ("vllm_api_token",),
    "remote::watsonx": ("watsonx_api_key", "watsonx_project_id"),
    "remote::wolfram-alpha": ("wolfram_alpha_api_key",),
}
TABLE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "llama-stack": {
        **_BOTH,
        "inline::braintrust": ("openai_api_key",),
        "remote::bedrock": ("aws_bearer_token_bedrock",),
    },
    "ogx": {
        **_BOTH,
        "remote::bedrock": ("aws_bedrock_bearer_token",),
        "remote::deepseek": ("deepseek_api_key",),
        "remote::exa-search": ("exa_search_api_key",),
        "remote::meta": ("meta_api_key",),
        "remote::mistral": ("mistral_api_key",),
        "remote::nimble-search": ("nimble_search_api_key",),
        "remote::serply-search": ("serply_search_api_key",),
    },
}
"""Family → provider type → its fields (llama-stack 0.7.3, ogx 1.5.0); the key is the first."""

TAKES_ANY = frozenset({"remote::passthrough"})
"""Provider types whose validators let every field through."""

LONGEST_KEY = 16_000
"""Characters of a key: h11, uvicorn's default parser, refuses a header value over 16.7 kB."""

_KEY_FIELD = re.compile(r"(^|_)(key|token)(_bedrock)?$")

_SHAPED = ("oci_auth_type", "mcp_headers")
"""First fields that are no key: these providers cannot be given one."""

_ASK = """
import importlib, json, pkgutil, sys
registry = importlib.import_module(sys.argv[1] + ".providers.registry")
found = {}
for module in pkgutil.iter_modules(registry.__path__):
    try:
        specs = importlib.import_module(f"{registry.__name__}.{module.name}").available_providers()
    except Exception:
        continue
    for spec in specs:
        home, _, name = (getattr(spec, "provider_data_validator", None) or "").rpartition(".")
        if home:
            fields = getattr(importlib.import_module(home), name).model_fields
            found.setdefault(spec.provider_type, []).extend(
                field for field in fields if field not in found.get(spec.provider_type, ())
            )
print("\\n" + json.dumps(found))
"""

_PACKAGES = {"llama-stack": "llama_stack", "ogx": "ogx"}
_ASK_LIMIT = 60.0


def fields_of(provider_type: str, family: str | None = None) -> tuple[str, ...]:
    """Return the fields that a provider type reads, its key first; none when it is not known.

    Args:
        provider_type: such as `remote::vllm`.
        family: `llama-stack` or `ogx`; both when None.
    """
    families = TABLE if family is None else {family: TABLE[family]}
    return tuple(
        dict.fromkeys(name for each in families.values() for name in each.get(provider_type, ()))
    )


def key_field(provider_type: str, family: str) -> str | None:
    """Return the field for a provider's key; None when it takes none, or is not known."""
    fields = fields_of(provider_type, family)
    return fields[0] if fields and fields[0] not in _SHAPED else None


def is_key_field(field: str) -> bool:
    """Return whether a field holds a key or token, and not a URL or a project."""
    return bool(_KEY_FIELD.search(field))


def every_field() -> frozenset[str]:
    """Return the fields of all providers that we know."""
    return frozenset(name for table in TABLE.values() for each in table.values() for name in each)


@cache
def installed_fields() -> Mapping[str, tuple[str, ...]]:
    """Return provider type → fields as the stacks installed here say; empty without one.

    Takes seconds: a stack is imported, in a process of its own, as importing it changes how the
    process logs. So this is for whoever found a field that the table does not know.
    """
    found: dict[str, tuple[str, ...]] = {}
    for package in _PACKAGES.values():
        try:
            answer = subprocess.run(  # noqa: S603 - our own text, and no input of anybody's
                [sys.executable, "-c", _ASK, package],
                capture_output=True,
                check=True,
                text=True,
                timeout=_ASK_LIMIT,
            )
            types = json.loads(answer.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, LookupError):
            continue  # it is not installed
        for name, fields in types.items():
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *fields)))
    return found
