"""Spans as they leave the command: to a real collector's address, in OpenTelemetry's own format."""

import asyncio
import signal
from pathlib import Path

from aiohttp import web
from fake_stack import serving, stack
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from proxying import CHAT, QUESTION, TOKEN, Recording, command

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


async def test_the_command_sends_spans_to_the_collector(tmp_path: Path) -> None:
    """Caller, proxy and stack are one trace; what is left when it ends is sent; no token is in it."""
    sent: list[bytes] = []
    seen = Recording()

    async def collect(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    async with (
        serving(collect) as collector,
        serving(stack(seen)) as url,
        command(
            url,
            tmp_path,
            tracing=True,
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_TRACES_EXPORTER": "otlp"},
        ) as running,
        running.client() as http,
    ):
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "Authorization": "Bearer cAn4ry"}
        answer = await http.post(f"{CHAT}?cAn4ry=1", json=QUESTION, headers=headers)
        assert answer.status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 20) == 0

    exported = [ExportTraceServiceRequest.FromString(each) for each in sent]
    spans = {
        span.span_id.hex(): span
        for request in exported
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == TRACE
    }
    (outer,) = [span for span in spans.values() if span.parent_span_id.hex() == CALLER]
    (inner,) = [span for span in spans.values() if span.parent_span_id == outer.span_id]
    assert outer.name == inner.name == f"POST {CHAT}"
    assert seen.header("traceparent") == [f"00-{TRACE}-{inner.span_id.hex()}-01"]
    everything = b"".join(sent)
    for secret in (TOKEN.encode(), b"cAn4ry"):
        assert secret not in everything
