"""What the proxy answers itself: `/client-config`, and the OpenAPI description of its endpoints."""

from collections.abc import Mapping
from typing import Any

from lightspeed_azure.config.proxy import ProxyConfiguration
from lightspeed_azure.proxy.errors import Failure


def client_config(
    models: Any, config: ProxyConfiguration, query: Mapping[str, str], own_url: str
) -> dict[str, str]:
    """Return the settings of an OpenAI client: `<provider_id>/<model>` and the base URL.

    The query names provider and model, else the configuration; without either the stack must serve
    exactly one model.

    Args:
        models: the response of the stack's `/v1/models`.
        config: may name a provider, a model and the external URL.
        query: may name `provider` and `model`.
        own_url: the proxy's URL as this caller wrote it, used if the configuration has none.

    Raises:
        Failure: no provider or model fits, or several do; the text lists those that exist.
        ValueError: `models` is not such a response.
    """
    try:
        served = _served(models)
    except (AttributeError, LookupError, TypeError):
        raise ValueError("The stack's answer is no list of models") from None
    asked = "provider" in query or "model" in query
    provider = query.get("provider") if asked else config.client_provider
    model = query.get("model") if asked else config.client_model
    status = 404 if asked else 503
    names = ", ".join(sorted(f"{each}/{name}" for each, name in served)) or "none"
    if provider is not None and provider not in {each for each, _ in served}:
        known = ", ".join(sorted({each for each, _ in served})) or "none"
        text = f"The stack has no provider of this name with a model; it has: {known}"
        raise Failure(status, "no_such_provider", text)
    fitting = [
        (each, name)
        for each, name in served
        if provider in (None, each) and model in (None, name, f"{each}/{name}")
    ]
    if not fitting:
        raise Failure(status, "no_such_model", f"The stack has no such model; it has: {names}")
    if len(fitting) > 1:
        text = f"There are several models; name provider and model; the stack has: {names}"
        raise Failure(400 if asked else 409, "several_models", text)
    found = "/".join(fitting[0])
    url = config.external_url or own_url
    return {"model": found, "base_url": f"{url}/v1"}


def _served(models: Any) -> list[tuple[str, str]]:
    """Return provider and model of each language model that the stack lists."""
    found: list[tuple[str, str]] = []
    for entry in models["data"]:
        about = entry.get("custom_metadata") or {}
        provider, kind = about.get("provider_id"), about.get("model_type", "llm")
        if provider and kind == "llm":
            found.append((str(provider), str(entry["id"]).removeprefix(f"{provider}/")))
    return found


_ERROR = {
    "description": "An error in OpenAI's shape.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_STATE = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["status"],
                "properties": {"status": {"type": "string"}},
            }
        }
    }
}


def _probe(summary: str, *, may_fail: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Yes.", **_STATE}}
    if may_fail:
        responses["503"] = {"description": "No; the status says why.", **_STATE}
    return {"get": {"summary": summary, "security": [], "responses": responses}}


def _asked(summary: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    responses = {"200": {"description": "Told.", "content": content}, "401": _ERROR, "403": _ERROR}
    responses |= dict.fromkeys(more.pop("failures", ()), _ERROR)
    return {"get": {"summary": summary, "responses": responses, **more}}


def _parameter(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "lightspeed-azure proxy", "version": "1"},
    "security": [{"bearer": []}],
    "paths": {
        "/livez": _probe("Whether the process lives.", may_fail=False),
        "/readyz": _probe("Whether it should get requests.", may_fail=True),
        "/startupz": _probe("Whether it has started.", may_fail=True),
        "/client-config": _asked(
            "A model of the stack's, and the URL to ask it at.",
            {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model", "base_url"],
                        "properties": {
                            "model": {"type": "string", "pattern": "^[^/]+/.+$"},
                            "base_url": {"type": "string"},
                        },
                    }
                }
            },
            parameters=[
                _parameter("provider", "The provider that serves it."),
                _parameter("model", "The model, with or without its provider."),
            ],
            failures=["400", "404", "409", "502", "503", "504"],
        ),
        "/metrics": _asked(
            "Counters and times for Prometheus.", {"text/plain": {"schema": {"type": "string"}}}
        ),
        "/status": _asked(
            "The state of every identity, and conditions as Kubernetes writes them.",
            {"application/json": {"schema": {"type": "object"}}},
        ),
        "/openapi.json": _asked(
            "This description.", {"application/json": {"schema": {"type": "object"}}}
        ),
    },
    "components": {
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": "string"},
                        },
                    }
                },
            }
        },
    },
}
"""OpenAPI 3.1, without the endpoints of the stack."""
