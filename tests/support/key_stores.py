"""The emulators of Azure, plus Azure Key Vault and HashiCorp Vault."""

from collections.abc import Iterator
from typing import Self

import pytest
from key_vault_emulator import KeyVaultEmulator
from vault_emulator import VaultEmulator

from lightspeed_azure.emulators import Emulators
from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.server import ServerThread, Site


class KeyStores(Emulators):
    """Entra ID, IMDS, Azure OpenAI, Key Vault and Vault; `ca_bundle` is good for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.key_vault = KeyVaultEmulator(entra=self.entra, clock=self.now)
        self.vault = VaultEmulator(clock=self.now)
        self._store_servers: ServerThread | None = None

    def start(self) -> Self:
        """Listen; returns when all services answer."""
        super().start()
        authority = CertificateAuthority()
        self._store_servers = ServerThread()
        ports = self._store_servers.start(
            [Site(each, 0, authority.server_context()) for each in (self.key_vault, self.vault)]
        )
        with self.ca_bundle.open("ab") as file:
            file.write(authority.pem())
        self.key_vault.endpoint, self.vault.endpoint = (
            f"https://localhost:{port}" for port in ports
        )
        return self

    def stop(self) -> None:
        """Drop all connections and leave no thread, socket or file."""
        if self._store_servers is not None:
            self._store_servers.stop()
        super().stop()

    def reset(self, *, token_lifetime: float = 3600.0) -> None:
        """Reset everything but the ports."""
        if self._store_servers is not None:
            self._store_servers.drop_connections()
        super().reset(token_lifetime=token_lifetime)
        self.key_vault.reset()
        self.vault.reset()


@pytest.fixture(name="running", scope="session")
def key_stores_fixture() -> Iterator[KeyStores]:
    """Yield emulators that all tests of a file share; `emu` of `signing_in` resets them."""
    with KeyStores() as emulators:
        yield emulators
