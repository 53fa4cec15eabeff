"""The proxy that the environment names for a host, as httpx and curl read it."""

import urllib.request

from lightspeed_azure.config.llama_stack import is_loopback


def environment_proxy(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy for an origin; None for none, and always for loopback.

    Args:
        scheme: `http` or `https`.
        host: the name or address.
    """
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
