"""A real OpenID Connect server: npm's certified oidc-provider, where Node.js is."""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ISSUER = "https://sso.example.test/realms/main"
"""What it calls itself: a name that leads nowhere from here, as one outside of a cluster."""

AUDIENCE = "llm-proxy"

SOURCE = Path(__file__).parents[1] / "oidc"


class OidcServer:
    """The server, and a client of its that gets tokens.

    Attributes:
        url: where it is reached.
        client_secret: what the client signs in with.
    """

    def __init__(self, port: int, client_secret: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client_secret = client_secret

    def token(self, *, alg: str = "RS256", seconds: int = 60, audience: str = "ours") -> str:
        """Return an access token by client credentials (RFC 6749, section 4.4; RFC 9068)."""
        answer = httpx.post(
            f"{self.url}/token",
            auth=("pipeline", self.client_secret),
            data={
                "grant_type": "client_credentials",
                "scope": "llm.invoke",
                "resource": f"urn:{alg}:{seconds}:{audience}",
            },
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def rotate(self, *, keep: bool) -> None:
        """Sign with new keys from now on, and publish the old ones still, or not."""
        query = "?keep=1" if keep else ""
        httpx.post(f"{self.url}/rotate{query}").raise_for_status()


@contextlib.contextmanager
def oidc_server(cache: Path) -> Iterator[OidcServer]:
    """Start the server; the test is skipped where there is no Node.js, or nothing to install from.

    Args:
        cache: a folder that outlives the session, where it is installed to, once.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js with npm is needed for the OpenID Connect server")
    for file in SOURCE.iterdir():
        shutil.copy(file, cache)
    installed = cache / "node_modules" / ".installed"
    lock = (SOURCE / "package-lock.json").read_text()
    if not installed.exists() or installed.read_text() != lock:
        command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        result = subprocess.run(
            command, cwd=cache, capture_output=True, text=True, check=False, timeout=120
        )
        if result.returncode:
            pytest.skip(f"npm ci cannot install oidc-provider: {result.stderr[-300:]}")
        installed.write_text(lock)
    secret = secrets.token_urlsafe(24)
    settings = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "CLIENT_SECRET": secret}
    with subprocess.Popen(
        [node, "server.js"],
        cwd=cache,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.strip().isdigit(), "the OpenID Connect server did not start"
            yield OidcServer(int(line), secret)
        finally:
            process.kill()
