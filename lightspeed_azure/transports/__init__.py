"""Tokens for anything built on httpx, and for synchronous clients.

`async_http_client` and `http_client` return a client; `AsyncTokenTransport` and `TokenTransport` go
under a client of your own. The same names for httpx2 are in `lightspeed_azure.transports.httpx2`.

`carrier.py` puts the token on, below redirects; `portal.py` lets synchronous code use it, and
`llama_stack_sync.py` and `ogx_sync.py` are the stack's synchronous clients upon that.
"""

from lightspeed_azure.transports.factory import async_http_client, http_client
from lightspeed_azure.transports.transport import AsyncTokenTransport, TokenTransport

__all__ = ["AsyncTokenTransport", "TokenTransport", "async_http_client", "http_client"]
