"""HTTP as azure-core sends it: the same proxies, and the same certificate authorities.

azure-core's transport is requests, which honours HTTPS_PROXY, HTTP_PROXY, NO_PROXY (networks too),
REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and trusts certifi's authorities otherwise.
"""

import os
from pathlib import Path
from typing import Any


def get(url: str, *, ca_bundle: Path | None, timeout: float) -> Any:
    """Send one GET without following redirects; return requests' response.

    Args:
        url: an https URL.
        ca_bundle: the authorities to trust in the place of the environment's.
        timeout: seconds to connect, and seconds to read.

    Raises:
        OSError: there is no answer; requests' own errors are OSErrors too.
    """
    import requests  # noqa: PLC0415 - 0.1 s

    verify = str(ca_bundle) if ca_bundle else True
    return requests.get(url, verify=verify, timeout=timeout, allow_redirects=False)


def proxy_variable(url: str) -> str:
    """Return the environment variable whose proxy requests for a URL go through, or ""."""
    from requests.utils import get_environ_proxies, select_proxy  # noqa: PLC0415 - 0.1 s

    if not select_proxy(url, get_environ_proxies(url)):
        return ""
    scheme = url.partition(":")[0]
    names = (f"{scheme}_proxy", f"{scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), names[1])
