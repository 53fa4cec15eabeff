"""The JSON body of a request, read where it must be known."""

import json
from typing import Any

import httpx

from lightspeed_azure.errors import ProviderDataError

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of a streamed body that are read into memory."""


def in_memory(request: httpx.Request) -> bytes | None:
    """Return the body of a request; None where it is a stream."""
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream)
    try:
        return request.content
    except httpx.RequestNotRead:
        return None


async def read_into_memory(request: httpx.Request, limit: int) -> bytes:
    """Return the body of a request; a stream is read, and the request keeps what it held.

    Raises:
        ProviderDataError: it is longer than `limit` bytes.
    """
    content = in_memory(request)
    if content is not None:
        return content
    parts = []
    size = 0
    async for part in request.stream:  # type: ignore[union-attr]  # it is async
        parts.append(part)
        size += len(part)
        if size > limit:
            raise ProviderDataError(
                f"The streamed body is longer than {limit} bytes, so nobody can tell which model "
                "it asks; pass it in one piece, or raise body_limit. Nothing was sent"
            )
    content = b"".join(parts)
    request.stream = httpx.ByteStream(content)
    return content


def parsed(content: bytes) -> Any:
    """Return the JSON in a body; None where it is something else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
