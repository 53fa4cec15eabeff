"""The HTTP proxy that the environment names for a host, as httpx and curl read it."""

import logging
import urllib.request
from urllib.parse import urlsplit

from lightspeed_azure.config.llama_stack import is_loopback

_logger = logging.getLogger(__name__)


def environment_proxy(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy for an origin; None for none, and always for loopback.

    Requests over plain HTTP never use a proxy, which would see the token. A SOCKS proxy is ignored
    with a warning, because neither HTTP library speaks SOCKS by itself.

    Args:
        scheme: `http` or `https`.
        host: the name or address.
    """
    if scheme != "https" or is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy:
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(url).scheme not in ("http", "https"):
        _logger.warning(
            "The proxy in HTTPS_PROXY or ALL_PROXY is not an HTTP proxy, so it is not used for %s; "
            "set HTTPS_PROXY=http://host:port, or NO_PROXY=%s if no proxy is needed",
            host,
            host,
        )
        return None
    return url
