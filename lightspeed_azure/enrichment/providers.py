"""The `remote::azure` inference providers of a stack's configuration, and what is registered there."""

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from lightspeed_azure.enrichment.document import Path
from lightspeed_azure.enrichment.references import REFERENCE
from lightspeed_azure.errors import InvalidConfigurationError

AZURE_PROVIDER_TYPE = "remote::azure"

DISABLED = "__disabled__"
"""The `provider_id` of a provider that no stack looks at (`replace_env_vars`, llama-stack 0.7.3)."""

INFERENCE: Path = ("providers", "inference")


_KEY = re.compile("[a-z_]{1,40}")


class ShapeError(InvalidConfigurationError):
    """A part of the configuration has a shape that no stack takes.

    Attributes:
        path: which part.
        text: what is wrong, and what to do.
        line_of: the part whose line is shown.
    """

    def __init__(self, path: Path, text: str, *, line_of: Path | None = None) -> None:
        super().__init__(f"{dotted(path)}: {text}" if path else text)
        self.path = path
        self.text = text
        self.line_of = line_of or path


class AzureProvider(NamedTuple):
    """One `remote::azure` inference provider.

    Attributes:
        path: where it is.
        entry: the provider's own map.
    """

    path: Path
    entry: MutableMapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """Its `config`, empty where there is none."""
        return self.entry.get("config") or {}

    @property
    def endpoint(self) -> str | None:
        """Its `base_url`, as far as that is known here."""
        text = resolved(with_environment(self.config.get("base_url")))
        return None if not text or REFERENCE.search(text) else text

    @property
    def name(self) -> str:
        """Its `provider_id` as the stack gives it, here, when its condition holds."""
        return resolved(with_environment(self.entry.get("provider_id")))


def check_is_configuration(tree: object) -> None:
    """Refuse a file that is known to be something else than a stack's configuration.

    Raises:
        ShapeError: with what it is, and what to give instead.
    """
    if not isinstance(tree, Mapping) or "providers" in tree:
        return
    ours = next((name for name in tree if name in _LIGHTSPEED_STACK), None)
    if "apiVersion" in tree and "kind" in tree:
        what, key, give = f"a Kubernetes {tree['kind']}", "apiVersion", ""
        give = _IN_KUBERNETES.get(str(tree["kind"]), f"give the run.yaml {_STARTS}")
    elif ours:
        stack = tree.get("llama_stack") or tree.get("ogx")
        named = isinstance(stack, Mapping) and "library_client_config_path" in stack
        run_yaml = (
            "run.yaml, which library_client_config_path names,"
            if named
            else "the stack's run.yaml,"
        )
        what, key, give = "lightspeed-stack.yaml", ours, f"give {run_yaml} and this file with -c"
    elif isinstance(tree.get("services"), Mapping):
        what, key, give = "a Compose file", "services", f"give the run.yaml {_STARTS}"
    else:
        return
    raise ShapeError((), f"is {what}, not a stack's configuration; {give}", line_of=(key,))


_LIGHTSPEED_STACK = ("llama_stack", "ogx", "azure_entra_id", "provider_credentials")
_STARTS = "that the stack starts from"
_IN_KUBERNETES = {
    "ConfigMap": (
        "give the text below its data: kubectl get configmap NAME -o "
        "jsonpath='{.data.run\\.yaml}' | lightspeed-azure enrich -"
    ),
    "Secret": "give the run.yaml that it holds",
}


def azure_providers(tree: object) -> list[AzureProvider]:
    """Return the `remote::azure` inference providers, in their order.

    Raises:
        ShapeError: something on the way to them, or their `config`, has the wrong shape.
    """
    found = []
    for path, entry in inference_providers(tree):
        if resolved(entry.get("provider_type")) != AZURE_PROVIDER_TYPE:
            continue
        if not isinstance(entry.get("config"), MutableMapping | None):
            raise ShapeError((*path, "config"), "is not a map; write its settings as keys")
        found.append(AzureProvider(path, entry))
    return found


def inference_providers(tree: object) -> Iterator[tuple[Path, MutableMapping[str, Any]]]:
    """Yield all inference providers and where each is.

    Raises:
        ShapeError: something on the way to them has the wrong shape.
    """
    if not isinstance(tree, Mapping):
        raise ShapeError((), "is not a map; a stack's configuration has keys such as providers")
    providers = tree.get("providers")
    if not isinstance(providers, Mapping | None):
        raise ShapeError(("providers",), "is not a map; write the APIs as its keys")
    entries = (providers or {}).get("inference")
    if not isinstance(entries, list | None):
        raise ShapeError(INFERENCE, "is not a list of providers; begin each one with a dash")
    for index, entry in enumerate(entries or ()):
        path = (*INFERENCE, index)
        if not isinstance(entry, MutableMapping):
            raise ShapeError(path, "is not a provider; give it a provider_id and a provider_type")
        yield path, entry


def all_providers(tree: object) -> Iterator[Mapping[str, Any]]:
    """Yield the providers of every API; whatever has another shape is left out."""
    providers = tree.get("providers") if isinstance(tree, Mapping) else None
    for entries in providers.values() if isinstance(providers, Mapping) else ():
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                yield entry


def registered_models(tree: Mapping[str, Any]) -> Iterator[tuple[Path, MutableMapping[str, Any]]]:
    """Yield the models that a configuration registers, and where each is.

    They stand in `registered_resources.models`, before llama-stack 0.4 in `models`.
    """
    resources = tree.get("registered_resources")
    inner = resources.get("models") if isinstance(resources, Mapping) else None
    for path, models in (
        (("registered_resources", "models"), inner),
        (("models",), tree.get("models")),
    ):
        for index, model in enumerate(models if isinstance(models, list) else ()):
            if isinstance(model, MutableMapping):
                yield (*path, index), model


def resolved(text: object) -> str:
    """Return a text with its conditions taken as met and its defaults as used.

    `${env.AZURE_API_KEY:+azure}` is "azure", and so is `${env.AZURE_NAME:=azure}`.
    """
    if not isinstance(text, str):
        return ""
    return REFERENCE.sub(lambda match: match[3] if match[2] else match[0], text)


def with_environment(text: object) -> str:
    """Return a text with the variables filled in that are set here."""
    if not isinstance(text, str):
        return ""
    return REFERENCE.sub(
        lambda match: match[0] if match[2] == "+" else os.environ.get(match[1]) or match[0], text
    )


def condition(text: object) -> str:
    """Return the variable without which a text is empty (`${env.NAME:+…}`), or ""."""
    match = REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return match[1] if match and match[2] == "+" else ""


def dotted(path: Path) -> str:
    """Return a path as an operator reads it: `providers.inference[1].config`.

    A key that does not look like a name is left out: it may be a secret in the wrong place.
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _KEY.fullmatch(part) else "…"
            text += f".{name}" if text else name
    return text
