"""Unified mode: make a stack's configuration from what lightspeed-stack.yaml says about it.

The steps are those of lightspeed-stack 0.7: a baseline, `inference.providers`, `native_override`.
Only what inference needs is made: the stores, MCP servers and retrieval that lightspeed-stack adds
to the stack are its own.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightspeed_azure.enrichment.document import Document, Unquoted
from lightspeed_azure.enrichment.providers import AZURE_PROVIDER_TYPE
from lightspeed_azure.enrichment.stack_file import read

SYNTHESIZED = "run.yaml (made from config and inference.providers)"
"""What a made configuration is called in messages."""

_TYPES = {
    "sentence_transformers": "inline::sentence-transformers",
    "vllm_rhaiis": "remote::vllm",
    "vllm_rhel_ai": "remote::vllm",
}
"""Types of lightspeed-stack whose provider in the stack is not `remote::<type>`."""

_KEY_FIELDS = {"remote::vllm": "api_token"}
"""Providers whose key is not called `api_key`."""


def stack_configuration(config: Any) -> tuple[str, str] | None:
    """Return the text of the stack's own configuration, and what to call it in messages.

    Args:
        config: the stack's block, as `LlamaStackConfiguration` has it.

    Returns:
        None when the block names neither a file nor what to make one from.

    Raises:
        InvalidConfigurationError: a file cannot be read.
    """
    path: Path | None = config.library_client_config_path
    if path is not None:
        return read(path), str(path)
    return unified_configuration(config.config) if config.config is not None else None


def unified_configuration(unified: Any) -> tuple[str, str]:
    """Return the same for unified mode.

    Args:
        unified: the `config` of the stack's block, as `UnifiedConfiguration` has it.

    Raises:
        InvalidConfigurationError: the profile cannot be read.
    """
    if _is_profile_alone(unified):
        return read(unified.profile), str(unified.profile)
    if unified.profile:
        base = Document(read(unified.profile), str(unified.profile)).value
    else:
        base = {} if unified.baseline == "empty" else _BASELINE
    tree = synthesize(base, unified.inference_providers, unified.native_override)
    return to_block_yaml(tree).lstrip("\n") + "\n", SYNTHESIZED


def source_name(config: Any) -> str:
    """Return what messages call the stack's own configuration; reads nothing."""
    if config.library_client_config_path is not None:
        return str(config.library_client_config_path)
    alone = config.config is not None and _is_profile_alone(config.config)
    return str(config.config.profile) if alone else SYNTHESIZED


def _is_profile_alone(unified: Any) -> bool:
    """Whether the profile is the stack's configuration as it is."""
    more = unified.native_override or unified.inference_providers
    return bool(unified.profile) and not more


def synthesize(
    base: Mapping[str, Any],
    providers: Sequence[Mapping[str, Any]],
    override: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a stack's configuration; the arguments stay as they are.

    Args:
        base: what to start from.
        providers: `inference.providers`. One with the id of a provider of `base` replaces it.
        override: merged last; maps are merged, everything else is replaced.
    """
    tree = copy.deepcopy(dict(base))
    for provider in providers:
        _add(tree, provider)
    return _merged(tree, override)


def _add(tree: dict[str, Any], provider: Mapping[str, Any]) -> None:
    """Add a provider, and the deployments of an Azure provider as models."""
    kind = str(provider["type"])
    provider_id = str(provider.get("id") or "").strip() or kind.replace("_", "-")
    provider_type = _TYPES.get(kind, f"remote::{kind.replace('_', '-')}")
    is_azure = provider_type == AZURE_PROVIDER_TYPE
    config: dict[str, Any] = {"base_url": "${env.AZURE_API_BASE}"} if is_azure else {}
    config |= copy.deepcopy(dict(provider.get("extra") or {}))
    if provider.get("api_key_env"):
        config[_KEY_FIELDS.get(provider_type, "api_key")] = f"${{env.{provider['api_key_env']}}}"
    names = list(provider.get("allowed_models") or [])
    if names:
        config["allowed_models"] = names
    entries = _section(_section(tree, "providers", dict), "inference", list)
    entries[:] = [each for each in entries if _provider_id(each) != provider_id]
    entries.append({"provider_id": provider_id, "provider_type": provider_type, "config": config})
    if not is_azure or not names:
        return
    # Without a key the stack cannot ask Azure which deployments there are.
    models = _section(_section(tree, "registered_resources", dict), "models", list)
    known = {(each.get("provider_id"), each.get("model_id")) for each in models}
    models += [
        {
            "model_id": name,
            "provider_id": provider_id,
            "provider_model_id": name,
            "model_type": "llm",
        }
        for name in names
        if (provider_id, name) not in known
    ]


def _section(tree: dict[str, Any], key: str, kind: type[Any]) -> Any:
    """Return a part of a configuration; one that is not there or is empty is made."""
    if not isinstance(tree.get(key), kind):
        tree[key] = kind()
    return tree[key]


def _provider_id(entry: Any) -> str:
    """Return the id of a provider; that of `${env.OPENAI_API_KEY:+openai}` is openai."""
    text = str(entry.get("provider_id") if isinstance(entry, Mapping) else "")
    match = re.fullmatch(r"\$\{env\.[A-Z0-9_]+:\+([^}]*)\}", text)
    return match[1] if match else text


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(before, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def to_block_yaml(value: Any, indent: str = "") -> str:
    """Return a value as YAML, with every text in quotes, after what stands before it on the line."""
    if isinstance(value, Mapping) and value:
        return "".join(
            f"\n{indent}{_text(str(key), plain=True)}:{to_block_yaml(item, indent + '  ')}"
            for key, item in value.items()
        )
    if isinstance(value, list | tuple) and value:
        return "".join(f"\n{indent}-{to_block_yaml(item, indent + '  ')}" for item in value)
    return f" {_text(value)}"


_PLAIN_KEY = re.compile(r"(?!true$|false$|null$)[a-z][a-z_]{3,}")
"""Keys that YAML takes for texts without quotes; it takes `no`, `off` and `yes` for booleans."""


def _text(value: Any, *, plain: bool = False) -> str:
    if isinstance(value, Unquoted) or (plain and _PLAIN_KEY.fullmatch(str(value))):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


_BASELINE: Mapping[str, Any] = {
    "version": 2,
    "distro_name": "lightspeed-azure",
    "apis": ["inference", "responses", "vector_io", "files", "tool_runtime"],
    "providers": {
        "inference": [],
        "responses": [
            {
                "provider_id": "builtin",
                "provider_type": "inline::builtin",
                "config": {
                    "persistence": {
                        "agent_state": {"namespace": "agents", "backend": "kv_default"},
                        "responses": {"table_name": "responses", "backend": "sql_default"},
                    }
                },
            }
        ],
        "files": [
            {
                "provider_id": "localfs",
                "provider_type": "inline::localfs",
                "config": {
                    "storage_dir": "${env.SQLITE_STORE_DIR:=~/.llama/storage/files}",
                    "metadata_store": {"table_name": "files_metadata", "backend": "sql_default"},
                },
            }
        ],
        "vector_io": [],
        "tool_runtime": [],
    },
    "registered_resources": {"models": []},
    "storage": {
        "backends": {
            "kv_default": {
                "type": "kv_sqlite",
                "db_path": "${env.KV_STORE_PATH:=~/.llama/storage/kv_store.db}",
            },
            "sql_default": {
                "type": "sql_sqlite",
                "db_path": "${env.SQL_STORE_PATH:=~/.llama/storage/sql_store.db}",
            },
        },
        "stores": {
            "metadata": {"backend": "kv_default", "namespace": "registry"},
            "inference": {
                "backend": "sql_default",
                "table_name": "inference_store",
                "max_write_queue_size": 10000,
                "num_writers": 4,
            },
            "conversations": {"backend": "sql_default", "table_name": "conversations"},
            "prompts": {"backend": "kv_default", "namespace": "prompts"},
            "connectors": {"backend": "kv_default", "namespace": "connectors"},
        },
    },
}
"""A stack with inference and responses; the variables are those of lightspeed-stack's baseline."""
