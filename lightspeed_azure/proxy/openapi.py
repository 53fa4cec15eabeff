"""The OpenAPI description of what the proxy answers itself."""

from typing import Any

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
"""OpenAPI 3.1; the stack's own description is the stack's."""
