"""All emulators together."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from lightspeed_azure.emulators.azure_openai import AzureOpenAIEmulator
from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.entra import EntraEmulator
from lightspeed_azure.emulators.imds import ImdsEmulator
from lightspeed_azure.emulators.server import ServerThread, Site


class Emulators:
    """Entra ID, IMDS and Azure OpenAI on loopback, on one thread of their own.

    Use it as a context manager, sync or async, or call `start` and `stop`; it can be started
    again after it was stopped. The emulators may be used from any thread.

    Args:
        token_lifetime: seconds that an issued token lives; see also `entra.token_lifetime`.
        clock: seconds since the epoch, as the services see them: issue times, expiry and
            time stamps all follow it.
        entra_port, imds_port, azure_port: 0 takes a free port.
    """

    def __init__(
        self,
        *,
        token_lifetime: float = 3600.0,
        clock: Callable[[], float] = time.time,
        entra_port: int = 0,
        imds_port: int = 0,
        azure_port: int = 0,
    ) -> None:
        self.clock = clock
        self._ports = (entra_port, imds_port, azure_port)
        self.entra = EntraEmulator(clock=self.now, token_lifetime=token_lifetime)
        self.imds = ImdsEmulator(entra=self.entra, clock=self.now)
        self.azure = AzureOpenAIEmulator(entra=self.entra, clock=self.now)
        self._servers: ServerThread | None = None
        self._directory: TemporaryDirectory[str] | None = None

    def now(self) -> float:
        """Return seconds since the epoch, as the services see them."""
        return self.clock()

    def __repr__(self) -> str:
        state = "running" if self._servers else "stopped"
        return f"<Emulators {state}: {self.entra!r}, {self.imds!r}, {self.azure!r}>"

    def start(self) -> Self:
        """Listen; returns when all services answer.

        Raises:
            OSError: a port that was asked for is taken.
            RuntimeError: they are running already.
        """
        if self._servers is not None:
            raise RuntimeError("these emulators are running already")
        authority = CertificateAuthority()
        servers = ServerThread()
        entra, imds, azure = self._ports
        ports = servers.start(
            [
                Site(self.entra, entra, authority.server_context()),
                Site(self.imds, imds),
                Site(self.azure, azure),
            ]
        )
        self._directory = TemporaryDirectory(prefix="lightspeed-azure-")  # mode 0700
        self.ca_bundle.write_bytes(authority.pem())
        self.entra.authority = f"https://localhost:{ports[0]}"
        self.imds.endpoint = f"http://127.0.0.1:{ports[1]}"
        self.azure.endpoint = f"http://127.0.0.1:{ports[2]}"
        self._servers = servers
        return self

    def stop(self) -> None:
        """Drop all connections and leave no thread, socket or file; does nothing when stopped."""
        servers, self._servers = self._servers, None
        directory, self._directory = self._directory, None
        if servers is not None:
            servers.stop()
        if directory is not None:
            directory.cleanup()

    def reset(self, *, token_lifetime: float = 3600.0) -> None:
        """Reset everything but the ports, so that tests can share the servers.

        Tenant, application, secret and signing key are new, so what one test got does not serve
        another; counters are at 0, faults gone, connections dropped, and the clock is the
        machine's.
        """
        if self._servers is not None:
            self._servers.drop_connections()
        self.clock = time.time
        self.entra.reset(token_lifetime=token_lifetime)
        self.imds.reset()
        self.azure.reset()

    @property
    def ca_bundle(self) -> Path:
        """The PEM file of the throw-away certificate authority, while the emulators run.

        Raises:
            RuntimeError: they do not run.
        """
        if self._directory is None:
            raise RuntimeError("the emulators are not running: use `with Emulators() as emu:`")
        return Path(self._directory.name) / "ca.pem"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point azure-identity and us at the emulators.

        `AZURE_CLIENT_SECRET` among them is the default application's throw-away secret.
        `AZURE_AUTHORITY_CA_BUNDLE` is read by lightspeed_azure; azure-identity has none like it.
        """
        application = self.entra.application
        return {
            "AZURE_TENANT_ID": application.tenant_id,
            "AZURE_CLIENT_ID": application.client_id,
            "AZURE_CLIENT_SECRET": application.client_secret.get_secret_value(),
            "AZURE_AUTHORITY_HOST": self.entra.authority,
            "AZURE_AUTHORITY_CA_BUNDLE": str(self.ca_bundle),
            "AZURE_API_BASE": self.azure.base_url,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.imds.endpoint,
        }

    def __enter__(self) -> Self:
        return self if self._servers is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)
