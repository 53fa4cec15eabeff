"""Fetches the documents by which an issuer tells its keys; what goes wrong comes with its cure."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from lightspeed_azure.config.inbound import is_plain

_LARGEST = 1 << 20
"""Bytes: key sets have a few thousand."""

_TIMEOUT = 5.0
"""Seconds for one document, however slowly it drips."""


class FetchError(Exception):
    """A document cannot be had; the text says which, why, and what to do."""


class Fetcher:
    """Fetches JSON documents.

    The file with the authorities is read again each time, so it may be rotated; and no connection
    is kept, because minutes lie between two fetches.

    Args:
        ca_bundle: PEM file with the authorities to trust; None: those of the system.
        allow_insecure: whether another machine may be asked over plain HTTP.
    """

    def __init__(self, ca_bundle: Path | None = None, *, allow_insecure: bool = False) -> None:
        self._ca_bundle = ca_bundle
        self._allow_insecure = allow_insecure

    async def check(self) -> None:
        """Read the file with the authorities; may wait for the disk.

        Raises:
            FetchError: it cannot be used.
        """
        try:
            await asyncio.to_thread(self._context)
        except FileNotFoundError:
            raise FetchError("there is no such file; correct the path, or create it") from None
        except OSError:  # ssl.SSLError is one
            raise FetchError(
                "holds no certificate in PEM, or cannot be read; name the file with the issuer's authority"
            ) from None

    async def json(self, url: str) -> Mapping[str, Any]:
        """Return the JSON object at a URL.

        Raises:
            FetchError: there is none.
        """
        if not url.startswith(("http://", "https://")):
            raise FetchError(f"{url[:200]!r} is no URL of http or https; give jwks_uri")
        if is_plain(url) and not self._allow_insecure:
            raise FetchError(
                f"{url} is plain HTTP on another machine, and who exchanges keys can make tokens; "
                "use https, or set allow_insecure: true if something else protects that way"
            )
        try:
            async with asyncio.timeout(_TIMEOUT):
                body = await self._get(url)
            document = json.loads(body)
        except TimeoutError:
            raise FetchError(
                f"{url} did not answer within {_TIMEOUT:g} s; check firewalls and proxies"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FetchError(_transport_fault(url, error)) from None
        except (ValueError, RecursionError):
            raise FetchError(f"{url} answers with no JSON; check the address") from None
        if not isinstance(document, dict):
            raise FetchError(f"{url} answers with no JSON object; check the address")
        return document

    async def _get(self, url: str) -> bytes:
        # Reading all the system's certificates takes tens of milliseconds.
        verify = await asyncio.to_thread(self._context) if url.startswith("https://") else False
        async with (
            httpx.AsyncClient(verify=verify, timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            if response.is_redirect:
                raise FetchError(f"{url} redirects elsewhere; give the address that it leads to")
            if response.status_code in (401, 403):
                raise FetchError(
                    f"{url} answers {response.status_code}, so it cannot be read anonymously; allow "
                    "that, in Kubernetes by binding the ClusterRole "
                    "system:service-account-issuer-discovery to the group system:unauthenticated"
                )
            if response.status_code != 200:
                raise FetchError(f"{url} answers {response.status_code}; check the address")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST:
                    raise FetchError(f"{url} answers with more than 1 MiB; check the address")
            return bytes(body)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_bundle)


def _transport_fault(url: str, error: Exception) -> str:
    """Return what was wrong on the way; the text of the error is of the libraries below."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"{url}: its certificate is not trusted; set ca_bundle to that of its authority, and "
            "use a name that the certificate has"
        )
    if isinstance(error, FileNotFoundError):
        return "ca_bundle: there is no such file; correct the path, or create it"
    if isinstance(error, ssl.SSLError):
        return f"{url}: no TLS ({error.reason or 'see ca_bundle'}); is it https there?"
    return f"{url} cannot be reached ({type(error).__name__}); check its name, port and network"
