"""The shapes in which an operator may write `provider_credentials:`, brought into one.

Besides the documented one: several `fields:` in one entry; the source beside the field; a map by
provider; and an entry of `llm_providers:` as OpenShift Lightspeed has it in `olsconfig.yaml`
(ols/app/models/config.py), whose own `*_config` block's `credentials_path` wins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightspeed_azure.config.problems import Key, LocatedConfigurationError, Problem, unknown_key
from lightspeed_azure.config.provider_credentials import KINDS, ProviderCredential
from lightspeed_azure.secrets import RedactedDict, redacted

OLS_TYPES: Mapping[str, str | None] = {
    "azure_openai": "remote::azure",
    "bedrock": "remote::bedrock",
    "google_vertex": "remote::vertexai",
    "google_vertex_anthropic": None,
    "openai": "remote::openai",
    "rhelai_vllm": "remote::vllm",
    "rhoai_vllm": "remote::vllm",
    "watsonx": "remote::watsonx",
}
"""OpenShift Lightspeed's types → the stack's; neither stack can ask Vertex for Claude by itself."""

_OLS_KEYS = frozenset(
    [
        *("name", "provider_id", "type", "field", "optional", "credentials_path"),
        *("url", "models", "project_id", "deployment_name", "api_version", "tlsSecurityProfile"),
        *(f"{name}_config" for name in OLS_TYPES),
    ]
)
_OLS_FIELDS = {"project": "vertex_project", "location": "vertex_location"}


@dataclass(frozen=True, slots=True)
class Written:
    """One field as an operator wrote it.

    Attributes:
        data: the keys of a `ProviderCredential`.
        places: where a key of `data` really stands, below the entry.
    """

    data: dict[str, Any] = field(repr=False)
    places: Mapping[str, Key]

    def located(self, problem: Problem) -> Key:
        """Return the key of a problem, as the operator wrote it."""
        head = problem.key[0] if problem.key else ""
        return self.places[head] if isinstance(head, str) and head in self.places else problem.key


def items_of(block: Any) -> list[tuple[Key, Any]]:
    """Return the entries of the block, each with its key.

    Raises:
        LocatedConfigurationError: it is neither a list nor a map.
    """
    if isinstance(block, list | tuple):
        return [((index,), item) for index, item in enumerate(block)]
    if isinstance(block, Mapping) and not block.keys() & {"provider_id", "provider_type", "source"}:
        return [
            ((str(name),), {"provider_id": name, **item} if isinstance(item, Mapping) else item)
            for name, item in block.items()
        ]
    if isinstance(block, Mapping):
        return [((), block)]
    text = "must be a list of entries, each with provider_id, field and source"
    raise LocatedConfigurationError([Problem((), text)])


def flattened(item: Mapping[str, Any]) -> Iterator[Written]:
    """Yield an entry's fields, one by one, in the documented shape.

    Raises:
        LocatedConfigurationError: the shape is none that is known.
    """
    if "credentials_path" in item or any(f"{name}_config" in item for name in OLS_TYPES):
        yield from _of_ols(item)
        return
    if item.keys() & {"name", "type"} and not item.keys() & {"source", "fields", *KINDS}:
        text = (
            "names no key; name its file with credentials_path, or remove the entry: a provider "
            "without a key needs none"
        )
        raise LocatedConfigurationError([Problem((), text)])
    if "fields" not in item:
        yield _with_source(item)
        return
    rest = RedactedDict({name: value for name, value in item.items() if name != "fields"})
    fields = RedactedDict(item["fields"]) if isinstance(item["fields"], Mapping) else None
    if not fields:
        text = "must be a map from a field to its source, such as vllm_api_token: {file: …}"
        raise LocatedConfigurationError([Problem(("fields",), text)])
    if {"field", "source"} & rest.keys():
        text = "takes the place of field and source; keep one or the other"
        raise LocatedConfigurationError([Problem(("fields",), text)])
    for name, source in fields.items():
        place: Key = ("fields", name)
        data = RedactedDict({**rest, "field": name, "source": source})
        yield Written(data, {"field": place, "source": place})


def _with_source(item: Mapping[str, Any]) -> Written:
    beside = RedactedDict({name: item[name] for name in KINDS if name in item})
    if "source" in item or not beside:
        return Written(RedactedDict(item), {})
    rest = RedactedDict({name: value for name, value in item.items() if name not in beside})
    return Written(RedactedDict({**rest, "source": beside}), {"source": (next(iter(beside)),)})


def _of_ols(item: Mapping[str, Any]) -> Iterator[Written]:
    name = item.get("provider_id") or item.get("name")
    kind = str(item.get("type") or name or "").lower()
    problems = [
        Problem((key,), unknown_key(key, _OLS_KEYS)) for key in item if key not in _OLS_KEYS
    ]
    if kind not in OLS_TYPES:
        text = f"must be one of {', '.join(OLS_TYPES)} beside credentials_path"
        problems.append(Problem(("type",), text))
    blocks = [f"{each}_config" for each in OLS_TYPES if item.get(f"{each}_config") is not None]
    own = f"{kind}_config"
    problems += [
        Problem((block,), f"belongs to another type than {kind}; remove it, or correct type")
        for block in blocks
        if block != own and kind in OLS_TYPES
    ]
    nested = item.get(own) or {}
    if not isinstance(nested, Mapping):
        problems.append(Problem((own,), "must be a map of keys and values"))
    if problems:
        raise LocatedConfigurationError(problems)
    inside = nested.get("credentials_path") is not None
    place: Key = (own, "credentials_path") if inside else ("credentials_path",)
    path = (nested if inside else item).get("credentials_path")
    if path is None:
        text = "is missing; name the file with the key, or its directory"
        raise LocatedConfigurationError([Problem(("credentials_path",), text)])
    common = {
        "provider_id": name,
        "provider_type": OLS_TYPES[kind],
        "optional": item.get("optional"),
    }
    source = {"google" if kind.startswith("google") else "file": path}
    keys = {"provider_id": ("name" if "name" in item else "provider_id",), "source": place}
    yield Written({**common, "field": item.get("field"), "source": source}, keys)
    if OLS_TYPES[kind] == "remote::vertexai":
        for key, target in _OLS_FIELDS.items():
            if nested.get(key):
                data = {**common, "field": target, "source": {"value": nested[key]}}
                yield Written(data, {"source": (own, key)})


def credentials_from(block: Any) -> tuple[ProviderCredential, ...]:
    """Return the entries of a block that a program made; nothing is substituted or looked at.

    Raises:
        LocatedConfigurationError: with every problem.
    """
    found: list[ProviderCredential] = []
    problems: list[Problem] = []
    for key, item in items_of(() if block is None else redacted(block)):
        if isinstance(item, ProviderCredential):
            found.append(item)
            continue
        try:
            if not isinstance(item, Mapping):
                raise LocatedConfigurationError([Problem((), "must be a map of keys and values")])
            for written in flattened(item):
                found += _made(written, problems, key)
        except LocatedConfigurationError as error:
            problems += [Problem((*key, *each.key), each.text) for each in error.located]
    if problems:
        raise LocatedConfigurationError(
            [Problem(("provider_credentials", *each.key), each.text) for each in problems]
        )
    return tuple(found)


def _made(written: Written, problems: list[Problem], key: Key) -> Iterator[ProviderCredential]:
    try:
        yield ProviderCredential(**written.data)
    except LocatedConfigurationError as error:
        problems += [Problem((*key, *written.located(each)), each.text) for each in error.located]
