"""The stack, for the proxy; the only file that uses aiohttp's client."""

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from lightspeed_azure.clients.environment_proxy import environment_proxy
from lightspeed_azure.clients.generations import GENERATIONS, Generation, of_version
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import StackUnavailableError
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.proxy.answer import Answer, StackAnswerError
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.proxy.status import StackState
from lightspeed_azure.proxy.timing import Deadline
from lightspeed_azure.secrets import RedactedStr

_logger = logging.getLogger(__name__)

KEEP_ALIVE = 3.0
"""Seconds for which an idle connection is used again; the stack hangs up after 5 (uvicorn 0.54)."""

ASK_LIMIT = 10.0
"""Seconds that the stack may take to answer a question of the proxy's own."""

LARGE = 1024 * 1024
"""Bytes of a body that are written at once; aiohttp warns about more."""

_NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)
"""The errors that make the stack count as unreachable. All others may be due to one request."""

_ANSWERS = StackState(reachable=True)
_NO_TYPE: Any = {"skip_auto_headers": ("Content-Type",)}


class _Response(aiohttp.ClientResponse):
    """A response that knows its connection, even if that is back in the pool."""

    def start(self, connection: Any) -> Any:
        self._used = connection.protocol
        return super().start(connection)

    def use_no_more(self) -> None:
        """Do not use the connection again.

        When a request ends in an exception the server responds first and then closes the connection
        without announcing it (uvicorn 0.54 below OGX 1.5): the next request on it would be lost.
        """
        if self.closed:
            self._used.close()
        else:
            self._used.force_close()


class Upstream:
    """The stack. Use it from one event loop.

    Args:
        stack: where it is.
        connect_timeout: seconds until it must have taken a connection.
        first_byte_timeout: seconds until its answer must have begun.
    """

    def __init__(
        self,
        stack: LlamaStackConfiguration,
        *,
        connect_timeout: float,
        first_byte_timeout: float,
    ) -> None:
        url = stack.url or ""
        parts = urlsplit(url)
        self.url = shown(url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.host, self.port = parts.hostname or "", parts.port
        self._first_byte = Deadline(first_byte_timeout)
        self._key = stack.api_key
        self._generation = next((g for g in GENERATIONS if g.family == stack.family), None)
        self._state = StackState()
        self._url = functools.lru_cache(256)(lambda target: URL(url + target, encoded=True))
        tls = ssl.create_default_context(cafile=stack.ca_bundle) if stack.ca_bundle else True
        proxy = environment_proxy(parts.scheme, parts.hostname or "")
        self._has_proxy = proxy is not None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
            proxy=proxy,
            auto_decompress=False,
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header for the stack's own authentication."""
        return None if self._key is None else RedactedStr(f"Bearer {self._key.get_secret_value()}")

    def state(self) -> StackState:
        """Return whether the last connection succeeded."""
        return self._state

    async def generation(self) -> Generation:
        """Return the generation of the stack; requests it until the first success.

        Raises:
            StackUnavailableError: it does not answer, or does not say.
        """
        if self._generation is None:
            try:
                self._generation = of_version(await self.require_json("/v1/version"))
            except (StackAnswerError, TimeoutError, ValueError, LookupError, TypeError):
                raise StackUnavailableError(
                    "The stack does not say its version, so nobody can tell which header it reads; "
                    "check llama_stack.url and that it runs, or give llama_stack.family"
                ) from None
        return self._generation

    async def get_json(self, path: str) -> Any:
        """Return the JSON of a path of the stack; sent without a token.

        Raises:
            Failure: it does not answer.
            StackAnswerError: it answers with an error.
            TimeoutError: its answer does not end.
        """
        headers = {"Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        async with asyncio.timeout(ASK_LIMIT):
            answer = await self.send("GET", path, headers, None)
            try:
                text = b"".join([part async for part in answer.parts])
            finally:
                await answer.close()
        if answer.status != 200:
            raise StackAnswerError(answer.status)
        return json.loads(text)

    async def require_json(self, path: str) -> Any:
        """Return what `get_json` returns, where no request can be sent without it.

        Raises:
            StackUnavailableError: it does not answer; the text says why, and what to do.
            StackAnswerError: it answers with an error.
            TimeoutError: its answer does not end.
        """
        try:
            return await self.get_json(path)
        except Failure as failure:
            raise StackUnavailableError(failure.message) from None

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Answer:
        """Send a request and return the answer once it has begun.

        Raises:
            Failure: there is no answer (502), or not in time (504), or the body cannot be read.
        """
        if isinstance(body, bytes) and len(body) > LARGE:
            headers = CIMultiDict(headers)
            headers["Content-Length"] = str(len(body))
            body = _pieces(body)
        failure: Failure | None = None  # raised below: the library's error may hold headers
        try:
            with self._first_byte() as block:
                if body is not None and not isinstance(body, bytes):
                    body = _extending(body, block.again)
                response = await self._session.request(
                    method,
                    self._url(target),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    # aiohttp would make one up; skipping costs, so only where it is missing
                    **({} if "Content-Type" in headers else _NO_TYPE),
                )
        except (TimeoutError, aiohttp.ClientError) as error:
            failure = self._failure(error)
            if isinstance(error, _NOT_CONNECTED):
                self._state = StackState(reachable=False, message=failure.message)
        if failure is not None:  # raised here, so that the error keeps no frame with a token
            raise failure

        self._state = _ANSWERS
        if response.status >= 400:
            response.use_no_more()  # type: ignore[attr-defined]  # it is one of ours

        async def close() -> None:
            response.close()  # a connection whose body was read is back in the pool already

        content = response.content
        return Answer(response.status, response.headers, content.iter_any(), close, content)

    def _failure(self, error: Exception) -> Failure:
        """Return what the caller is told about a request that got no answer; log the URL too."""
        if isinstance(error.__cause__, Failure):  # the caller's body could not be read
            return error.__cause__
        why = network_failure(error)
        if why is None or type(error) is aiohttp.ClientResponseError:
            words, cure = "not HTTP", "Check that it runs, and llama_stack.url"
        else:
            words = why.words
            cure = why.cure(
                url_key="llama_stack.url", ca_key="llama_stack.ca_bundle", proxy=self._has_proxy
            )
        _logger.warning("The stack at %s gave no answer: %s. %s", self.url, words, cure)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            text = "The stack took no connection in time; check that it runs and can be reached"
            return Failure(504, "connect_timeout", text)
        if isinstance(error, TimeoutError):
            text = "The stack's answer did not begin in time; proxy.first_byte_timeout is the limit"
            return Failure(504, "first_byte_timeout", text)
        words = words.partition(":")[0]  # what OpenSSL says may contain host names
        text = f"The stack gave no answer: {words}. {cure}"
        return Failure(502, "stack_unreachable", text, {"Retry-After": "5"})

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body without copying it; aiohttp would copy an `io.BytesIO`."""
    view = memoryview(body)
    for start in range(0, len(view), LARGE):
        yield view[start : start + LARGE]  # type: ignore[misc]  # aiohttp takes it as bytes


async def _extending(
    parts: AsyncIterator[bytes], again: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Pass a body on; each part restarts the time in which the response must begin."""
    async for part in parts:
        again()
        yield part
    again()
