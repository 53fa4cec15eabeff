"""Embedded stand-ins for Entra ID, managed identity, Azure OpenAI, Key Vault and Vault.

They speak the real protocols over real sockets on the loopback interface, so that the real
azure-identity, openai and llama-stack can be pointed at them::

    from lightspeed_azure.emulators import Emulators, Fault

    with Emulators(token_lifetime=10.0) as emu:
        os.environ.update(emu.environment())
        emu.entra.fault(Fault.status(503), times=3)

Importing this package imports nothing heavy: the names below are looked up when they are used.
The emulators need the extra ``demo`` (``pip install 'lightspeed-azure[demo]'``).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightspeed_azure.emulators.applications import (
        Application,
        ClientSecret,
        FederatedCredential,
    )
    from lightspeed_azure.emulators.azure_openai import AzureOpenAIEmulator
    from lightspeed_azure.emulators.entra import EntraEmulator
    from lightspeed_azure.emulators.faults import Fault
    from lightspeed_azure.emulators.imds import ImdsEmulator, ManagedIdentity
    from lightspeed_azure.emulators.key_vault import KeyVaultEmulator
    from lightspeed_azure.emulators.ledgers import AzureRequests, EntraRequests, ImdsRequests
    from lightspeed_azure.emulators.provider_suite import ProviderEmulators
    from lightspeed_azure.emulators.standalone import serve
    from lightspeed_azure.emulators.suite import Emulators
    from lightspeed_azure.emulators.tokens import fingerprint
    from lightspeed_azure.emulators.vault import VaultEmulator

__all__ = [
    "Application",
    "AzureOpenAIEmulator",
    "AzureRequests",
    "ClientSecret",
    "Emulators",
    "EntraEmulator",
    "EntraRequests",
    "Fault",
    "FederatedCredential",
    "ImdsEmulator",
    "ImdsRequests",
    "KeyVaultEmulator",
    "ManagedIdentity",
    "ProviderEmulators",
    "VaultEmulator",
    "fingerprint",
    "serve",
]

_HOMES = {
    "Application": "applications",
    "AzureOpenAIEmulator": "azure_openai",
    "AzureRequests": "ledgers",
    "ClientSecret": "applications",
    "Emulators": "suite",
    "EntraEmulator": "entra",
    "EntraRequests": "ledgers",
    "Fault": "faults",
    "FederatedCredential": "applications",
    "ImdsEmulator": "imds",
    "ImdsRequests": "ledgers",
    "KeyVaultEmulator": "key_vault",
    "ManagedIdentity": "imds",
    "ProviderEmulators": "provider_suite",
    "VaultEmulator": "vault",
    "fingerprint": "tokens",
    "serve": "standalone",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first used."""
    import importlib  # noqa: PLC0415 - only whoever uses an emulator pays for it

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
