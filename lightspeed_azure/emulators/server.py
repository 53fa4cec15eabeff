"""The servers: one daemon thread with an event loop of its own, and the only file with aiohttp.

aiohttp's low-level server lets a handler abort, truncate and drip, which ASGI servers hide.
"""

import asyncio
import contextlib
import errno
import logging
import math
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from lightspeed_azure.concurrency.loop_thread import LoopThread
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.service import EmulatedService, Request, Response

_log = logging.getLogger(__name__)
_RST = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: closing sends a reset
_HTML = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"
_BODY_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """One service, where it listens: `port` 0 takes a free one; `tls` None is plain HTTP."""

    service: EmulatedService
    port: int = 0
    tls: ssl.SSLContext | None = None


class ServerThread:
    """Serves sites on the loopback interface (127.0.0.1, and ::1 where there is one).

    Not to be started twice. `stop` is prompt, whatever the clients do.
    """

    def __init__(self) -> None:
        self._thread: LoopThread | None = None
        self._runners: list[web.ServerRunner] = []

    def start(self, sites: Sequence[Site]) -> tuple[int, ...]:
        """Listen for all sites and return their ports; waits until they do.

        Raises:
            OSError: a port that was asked for is taken; nothing is left running.
        """
        self._thread = LoopThread("lightspeed-azure-emulators")
        try:
            return tuple(self._thread.run(lambda: self._start(sites)))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Drop all connections, close all sockets and end the thread; waits until it has ended."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive:  # a forked child has no thread
            thread.run(self._stop)
            thread.stop()
            thread.join()

    def drop_connections(self) -> None:
        """End every connection that is open, idle or not; waits until that is done."""
        if self._thread is not None:
            self._thread.run(self._drop)

    async def _start(self, sites: Sequence[Site]) -> list[int]:
        ports = []
        for site in sites:
            server = web.Server(
                _Handler(site.service),
                handler_cancellation=True,
                access_log=None,
                logger=_log,
            )
            runner = web.ServerRunner(server, shutdown_timeout=0.0)
            self._runners.append(runner)
            await runner.setup()
            sockets = _listen(site.port)
            for each in sockets:
                await web.SockSite(runner, each, ssl_context=site.tls).start()
            ports.append(int(sockets[0].getsockname()[1]))
        return ports

    async def _stop(self) -> None:
        for runner in self._runners:
            # Closed first, so that no connection arrives while the open ones are dropped.
            for site in list(runner.sites):
                await site.stop()
        await self._drop()
        for runner in self._runners:
            await runner.cleanup()

    async def _drop(self) -> None:
        for runner in self._runners:
            for connection in runner.server.connections if runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
        await asyncio.sleep(0)


class _Handler:
    """Turns aiohttp's request into ours, and our answer or fault into what goes over the wire."""

    def __init__(self, service: EmulatedService) -> None:
        self._service = service

    async def __call__(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = Request(
            method=incoming.method,
            path=incoming.path,
            query=dict(incoming.query),
            headers={name.lower(): value for name, value in incoming.headers.items()},
            body=await _body(incoming),
        )
        handling = self._service.receive(request)
        fault = handling.fault
        if fault is not None:
            _log.debug("%s: fault %s on %s", self._service.name, fault.kind, request.path)
            replaced = await self._instead(incoming, fault)
            if replaced is not None:
                return replaced
        answer = handling.respond()
        spoil = fault if fault is not None and fault.kind in {"truncated", "drip"} else None
        return await _send(incoming, answer, spoil)

    async def _instead(self, incoming: web.BaseRequest, fault: Fault) -> web.StreamResponse | None:
        """Return the answer that `fault` gives instead, or None when it replaces nothing."""
        match fault.kind:
            case "status":
                answer = self._service.refusal(fault)
                headers = dict(answer.headers)
                if fault.retry_after is not None:
                    headers["Retry-After"] = _seconds(fault.retry_after)
                body = answer.body if fault.body is None else fault.body.encode()
                return await _send(
                    incoming, Response(fault.code, body, answer.content_type, headers), None
                )
            case "not_json":
                return await _send(incoming, Response(200, _HTML, "text/html"), None)
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "reset":
                _reset(incoming)
                return web.Response()
            case "delay":
                await asyncio.sleep(fault.seconds)
        return None


async def _send(
    incoming: web.BaseRequest, answer: Response, spoil: Fault | None
) -> web.StreamResponse:
    whole = b"".join(answer.chunks) or answer.body
    response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
    response.headers["Content-Type"] = answer.content_type
    streams = bool(answer.chunks)
    if not streams:
        response.content_length = len(whole)
    pieces: Sequence[bytes] = answer.chunks if streams else (whole,)
    interval = answer.interval
    if spoil is not None and spoil.kind == "drip":
        pieces = [whole[at : at + 1] for at in range(len(whole))]
        interval = spoil.seconds
    elif spoil is not None:
        pieces = (whole[: len(whole) // 2],)
    with contextlib.suppress(ConnectionError):  # the client may leave at any moment
        await response.prepare(incoming)
        for index, piece in enumerate(pieces):
            if index and interval:
                await asyncio.sleep(interval)
            await response.write(piece)
        if spoil is not None and spoil.kind == "truncated":
            _close(incoming)
        else:
            await response.write_eof()
    return response


async def _body(incoming: web.BaseRequest) -> bytes:
    """Read the whole body; aiohttp's own limit of 1 MiB is too small for embeddings."""
    parts = []
    size = 0
    async for part in incoming.content.iter_any():
        size += len(part)
        if size > _BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(_BODY_LIMIT, size)
        parts.append(part)
    return b"".join(parts)


def _seconds(value: float | str) -> str:
    return value if isinstance(value, str) else str(math.ceil(value))


def _close(incoming: web.BaseRequest) -> None:
    if incoming.transport is not None:
        incoming.transport.close()


def _reset(incoming: web.BaseRequest) -> None:
    if incoming.transport is not None:
        raw = incoming.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        incoming.transport.abort()


def _listen(port: int) -> list[socket.socket]:
    """Return listening sockets on one port: 127.0.0.1, and ::1 where the machine has it.

    `localhost` may mean either: another process on ::1 with our port would get our requests.
    """
    for _ in range(20):
        first = socket.create_server(("127.0.0.1", port), backlog=512)
        taken = int(first.getsockname()[1])
        try:
            second = socket.create_server(("::1", taken), family=socket.AF_INET6, backlog=512)
        except OSError as error:
            if _is_absent(error):
                return [first]
            first.close()
            if port:
                raise
        else:
            return [first, second]
    raise OSError("no port is free on both 127.0.0.1 and ::1")


def _is_absent(error: OSError) -> bool:
    return error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
