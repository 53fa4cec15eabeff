"""Checks of a stack that runs as a server: version, health, access, providers and models."""

import importlib.metadata
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from lightspeed_azure.check.finding import Finding, failed, ok, warning
from lightspeed_azure.clients.environment_proxy import environment_proxy
from lightspeed_azure.clients.generation import GENERATIONS, Generation
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.enrichment import AZURE_PROVIDER_TYPE
from lightspeed_azure.network_failure import network_failure, shown

STACK, VERSIONS, INBOUND, PROVIDERS, MODELS = "stack", "versions", "access", "provider", "models"
VECTOR_STORES = "vector stores"

TIMEOUT = 10.0


class StackService:
    """A stack that runs as a server; `check` sends it no token of Azure.

    Args:
        config: the stack's block.
        azure: whether it should have an Azure provider.

    Attributes:
        is_reachable: whether it answered as a stack does.
        family: its generation; None before `check`, and when it is not known.
        endpoints: its Azure providers: provider_id → base_url, or None.
        providers: all its providers: provider_id → provider_type.
        models: its models that name their provider: model → provider_id.
    """

    def __init__(self, config: LlamaStackConfiguration, *, azure: bool = True) -> None:
        self._config = config
        self._azure = azure
        self.providers: dict[str, str] = {}
        self.url = config.url or ""
        self.is_reachable = False
        self.family: Generation | None = None
        self.endpoints: dict[str, str | None] = {}
        self.models: dict[str, str] = {}
        self._has_vector_stores = False
        self._embedding = ""  # an embedding model of an Azure provider

    def client(self, *, timeout: float = TIMEOUT) -> httpx.Client:
        """Return an HTTP client that follows no redirects; the caller closes it."""
        key = self._config.api_key
        bundle = self._config.ca_bundle
        url = urlsplit(self.url)
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            transport=httpx.HTTPTransport(
                verify=ssl.create_default_context(cafile=bundle) if bundle else True,
                proxy=environment_proxy(url.scheme, url.hostname or ""),
            ),
            timeout=timeout,
        )

    def check(self) -> Iterator[Finding]:
        """Check its version, health, access, providers and models."""
        try:
            with self.client() as client:
                yield from self._check(client)
        except (httpx.TransportError, OSError) as error:
            failure = network_failure(error)
            what, cure = type(error).__name__, "Check llama_stack.url"
            if failure:
                what = failure.words
                cure = failure.cure(url_key="llama_stack.url", ca_key="llama_stack.ca_bundle")
            yield failed(STACK, f"{shown(self.url)}: {what}", cure)

    def provider_of(self, model: str) -> str | None:
        """Return the provider of a model, as registered or by the model's prefix, if it is known."""
        names = [name for name in self.providers if model.startswith(f"{name}/")]
        return self.models.get(model) or max(names, key=len, default=None)

    def _check(self, client: httpx.Client) -> Iterator[Finding]:
        answer = client.get("/v1/version")
        version = _field(answer, "version")
        if not version:
            cure = "Check that llama_stack.url is the stack's, without /v1"
            yield failed(
                STACK, f"{shown(self.url)} is no Llama Stack: HTTP {answer.status_code}", cure
            )
            return
        self.is_reachable = True
        for family in GENERATIONS:
            if (
                client.get("/v1/version", headers={family.version_header: "0.0.0"}).status_code
                == 426
            ):
                self.family = family
        if self.family is None:
            yield warning(
                STACK, f"{version} at {self.url}; neither Llama Stack nor OGX as we know them"
            )
        else:
            found = f"{self.family.title} {version} at {self.url}, reads {self.family.header}"
            yield ok(STACK, found)
            yield self._check_versions(version)
        health = client.get("/v1/health")
        if _field(health, "status") != "OK":
            yield failed(STACK, f"is not healthy: HTTP {health.status_code}", "Look into its log")
        yield from self._check_contents(client)

    def _check_versions(self, server: str) -> Finding:
        assert self.family is not None  # noqa: S101 - for the type checker
        package = self.family.distribution
        try:
            client = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            cure = f"pip install '{package}{_required(package)}'"
            return warning(VERSIONS, f"{package} is not installed here", cure)
        series, ours = (".".join(each.split(".")[:2]) for each in (server, client))
        if series == ours:
            return ok(VERSIONS, f"{package} {client} fits the server's {server}")
        needed = _required(package)
        cure = f"pip install '{package}=={series}.*', or run a server of series {ours}"
        if not _allows(needed, series):
            cure = f"Run a server of series {ours}: lightspeed-azure needs {package}{needed}"
        return failed(VERSIONS, f"{package} {client}, but the server is {server}: HTTP 426", cure)

    def _check_contents(self, client: httpx.Client) -> Iterator[Finding]:
        providers = client.get("/v1/providers")
        key = "llama_stack.api_key"
        if providers.status_code in (401, 403):
            has = "refuses" if self._config.api_key else "asks for"
            yield failed(INBOUND, f"the stack {has} {key}", f"Set {key} to a key that it accepts")
            return
        if self._config.api_key:
            yield ok(INBOUND, f"{key} is sent, and not refused")
        else:
            yield ok(INBOUND, f"open to everybody who reaches it; {key} is not needed")
        entries = [entry for entry in _entries(providers) if entry.get("provider_id")]
        self.providers = {
            str(entry["provider_id"]): str(entry.get("provider_type") or "") for entry in entries
        }
        self.endpoints = {
            str(entry["provider_id"]): (entry.get("config") or {}).get("base_url") or None
            for entry in entries
            if entry.get("provider_type") == AZURE_PROVIDER_TYPE
        }
        self._has_vector_stores = any(entry.get("api") == "vector_io" for entry in entries)
        if not self.endpoints and not self._azure:
            yield self._check_models(client)
            return
        if not self.endpoints:
            cure = "Add one to run.yaml; one with a condition vanishes where the variable is unset"
            yield failed(PROVIDERS, "the stack has no remote::azure provider", cure)
            return
        for name, endpoint in self.endpoints.items():
            if endpoint:
                yield ok(PROVIDERS, f"{name} at {endpoint}")
            else:
                yield failed(PROVIDERS, f"{name} has no base_url", "Set it in run.yaml")
        yield self._check_models(client)
        if self._has_vector_stores and self._embedding:
            found = f"embeddings of {self._embedding} get no token, so Azure refuses them"
            cure = "Use an embedding model of another provider for vector stores"
            yield warning(VECTOR_STORES, found, cure)

    def _check_models(self, client: httpx.Client) -> Finding:
        described = {
            str(entry.get("id")): entry.get("custom_metadata") or {}
            for entry in _entries(client.get("/v1/models"))
        }
        self.models = {
            name: str(data["provider_id"])
            for name, data in described.items()
            if data.get("provider_id")
        }
        self._embedding = next(
            (
                name
                for name, data in described.items()
                if data.get("model_type") == "embedding" and self.models.get(name) in self.endpoints
            ),
            "",
        )
        wanted = self.endpoints if self._azure else self.providers
        ours = [model for model in described if self.provider_of(model) in wanted]
        if ours:
            more = f" and {len(ours) - 5} more" if len(ours) > 5 else ""
            return ok(MODELS, ", ".join(ours[:5]) + more)
        cure = "Register the deployments in registered_resources.models of run.yaml"
        whose = "an Azure" if self._azure else "any"
        return failed(MODELS, f"no model of {whose} provider is registered", cure)


def _required(package: str) -> str:
    """Return the versions of a package that this one requires, such as `<2,>=1.5`; "" for any."""
    for line in importlib.metadata.requires("lightspeed-azure") or ():
        found = re.match(rf"{package}(?![\w-])\s*([^;]*)", line)
        if found:
            return found[1].strip()
    return ""


def _allows(required: str, series: str) -> bool:
    """Return whether a requirement of `>=` and `<` allows a series such as `0.7`."""
    number = _numbers(series)
    return all(
        number >= _numbers(limit) if sign == ">=" else number < _numbers(limit)
        for sign, limit in re.findall(r"(>=|<)([\d.]+)", required)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.is_success else None
    except ValueError:
        return None


def _field(answer: httpx.Response, name: str) -> str:
    data = _json(answer)
    return str(data.get(name) or "") if isinstance(data, dict) else ""


def _entries(answer: httpx.Response) -> list[dict[str, Any]]:
    data = _json(answer)
    entries = data.get("data") if isinstance(data, dict) else data
    return (
        [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
