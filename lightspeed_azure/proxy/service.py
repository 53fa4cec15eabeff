"""What happens to each request: which path, who may, how long, and what goes wrong."""

import json
import logging
import random
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lightspeed_azure.config.proxy import ProxyConfiguration
from lightspeed_azure.metrics import Metrics, Tracked
from lightspeed_azure.proxy.answer import SERVER, StackAnswerError
from lightspeed_azure.proxy.endpoints import OPENAPI, client_config
from lightspeed_azure.proxy.errors import Failure, failure_of
from lightspeed_azure.proxy.forwarding import Forwarding
from lightspeed_azure.proxy.inbound import Inbound, InboundRejected, check_operator
from lightspeed_azure.proxy.routes import OTHER, Route, Routes
from lightspeed_azure.proxy.status import Probes, Status, Told
from lightspeed_azure.proxy.tracing import Tracing
from lightspeed_azure.proxy.upstream import Upstream

_logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBES = ("/livez", "/readyz", "/startupz")
_OPEN_TO_ADMINS = (*_PROBES, "/metrics", "/status", "/openapi.json")
_NO_PATH = (
    "There is no such path here: those of OpenAI's API begin with /v1, as /v1/chat/completions; "
    "proxy.routes lets more of the stack's through"
)


class Service:
    """Answers the requests of callers, and those of operators on the admin port.

    Args:
        forwarding: sends requests on to the stack.
        upstream: the stack.
        inbound: decides who may call.
        probes: what probes are told.
        status: what `/status` tells.
        metrics: what is counted.
        routes: where requests go.
        tracing: makes the spans.
        config: what `/client-config` names.
    """

    def __init__(
        self,
        *,
        forwarding: Forwarding,
        upstream: Upstream,
        inbound: Inbound,
        probes: Probes,
        status: Status,
        metrics: Metrics,
        routes: Routes,
        tracing: Tracing,
        config: ProxyConfiguration,
    ) -> None:
        self._forwarding = forwarding
        self._upstream = upstream
        self._inbound = inbound
        self._probes = probes
        self._status = status
        self._metrics = metrics
        self._config = config
        self._routes = routes
        self._tracing = tracing
        self._memory: dict[str, Callable[[], Told]] = {
            "/livez": probes.live,
            "/readyz": self._probes.ready,
            "/startupz": probes.started,
            "/openapi.json": lambda: (200, OPENAPI),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a caller."""
        began = time.perf_counter()
        request_id = _request_id(request)
        route = self._routes.of(request.method, request.raw_path)
        name = OTHER if route is None else route.name
        tracked = self._metrics.request_started(name)
        code = 499  # the caller has left
        try:
            with self._tracing.serving(request.method, name, request.headers) as span:
                try:
                    response = await self._answer(request, route, request_id, tracked)
                except ConnectionError:
                    raise  # neither is there anybody left to tell
                except Exception as error:  # noqa: BLE001 - each becomes an answer
                    response = self._failed(error, request_id)
                code = response.status
                span.answered(code)
            if self._probes.draining:
                response.force_close()
            return response
        finally:
            tracked.finished(code)
            if _logger.isEnabledFor(logging.INFO):
                milliseconds = (time.perf_counter() - began) * 1000
                _logger.info(
                    "%s %s %d %.1f ms request %s",
                    request.method,
                    name,
                    code,
                    milliseconds,
                    request_id,
                )

    async def administer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request to the admin port: no authentication, and nothing of the stack.

        Requests of web pages are refused, except for probes, which hold nothing worth reading.
        """
        request_id = _request_id(request)
        route = self._routes.of(request.method, request.raw_path)
        try:
            if route is None or route.name not in _PROBES:
                check_operator(request.headers, self._config.admin_names)
            if route is None or route.name not in _OPEN_TO_ADMINS:
                raise Failure(404, "not_found", f"Here are only {', '.join(_OPEN_TO_ADMINS)}")
            return await self._own(request, route, request_id, for_operators=True)
        except Exception as error:  # noqa: BLE001 - each becomes an answer
            return self._failed(error, request_id)

    async def _answer(
        self, request: web.BaseRequest, route: Route | None, request_id: str, tracked: Tracked
    ) -> web.StreamResponse:
        if route is not None and route.name in _PROBES:
            return await self._own(request, route, request_id)
        try:
            await self._inbound.admit(request.headers)
        except InboundRejected as rejected:
            self._metrics.rejected(rejected.reason)
            raise
        if route is None:
            raise Failure(404, "not_found", _NO_PATH)
        if route.is_own:
            return await self._own(request, route, request_id)
        _check_method(request, route)
        await _go_on(request)
        return await self._forwarding(request, route, request_id, tracked)

    async def _own(
        self,
        request: web.BaseRequest,
        route: Route,
        request_id: str,
        *,
        for_operators: bool = False,
    ) -> web.StreamResponse:
        """Answer one of the proxy's own paths."""
        _check_method(request, route)
        if route.name == "/status":
            return _json(200, self._status.as_json(for_operators=for_operators), request_id)
        if route.name == "/metrics":
            accept = request.headers.get("Accept", "")
            return _response(200, *self._metrics.exposition(accept), request_id)
        if route.name == "/client-config":
            return _json(200, await self._client_config(request), request_id)
        return _json(*self._memory[route.name](), request_id)

    async def _client_config(self, request: web.BaseRequest) -> dict[str, str]:
        own_url = f"{request.scheme}://{request.host}"
        try:
            models = await self._upstream.get_json("/v1/models")
            return client_config(models, self._config, request.query, own_url)
        except (StackAnswerError, TimeoutError, ValueError):
            text = "The stack does not say which models it serves; check that it runs"
            raise Failure(502, "stack_error", text) from None

    def _failed(self, error: Exception, request_id: str) -> web.StreamResponse:
        failure = failure_of(error)
        if failure.code == "internal_error":
            where = "".join(traceback.format_tb(error.__traceback__))  # no text, no values
            _logger.error("%s, request %s\n%s", type(error).__name__, request_id, where)
        response = _response(failure.status, failure.body(), "application/json", request_id)
        response.headers.update(failure.headers)
        if failure.status in (400, 408, 413, 415):  # the rest of the body is not waited for
            response.force_close()
        return response


def _request_id(request: web.BaseRequest) -> str:
    """Return the caller's own id where it is a harmless one, else a new one."""
    given = request.headers.get("X-Request-ID")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"


def _check_method(request: web.BaseRequest, route: Route) -> None:
    if request.method not in route.methods:
        text = f"Here one may only {', '.join(route.methods)}"
        raise Failure(405, "method_not_allowed", text, {"Allow": ", ".join(route.methods)})


async def _go_on(request: web.BaseRequest) -> None:
    """Ask for the body where the caller waits to be asked (RFC 9110, section 10.1.1)."""
    expected = request.headers.get("Expect")
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise Failure(417, "expectation_failed", "Only 100-continue can be expected")
    if request.transport is not None and not request.content.is_eof():
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _json(status: int, told: dict[str, Any], request_id: str) -> web.StreamResponse:
    return _response(status, json.dumps(told).encode(), "application/json", request_id)


def _response(status: int, body: bytes, kind: str, request_id: str) -> web.StreamResponse:
    headers = {
        "Content-Type": kind,
        "Server": SERVER,
        "X-Request-ID": request_id,
        "Cache-Control": "no-store",
    }
    return web.Response(status=status, body=body, headers=headers)
