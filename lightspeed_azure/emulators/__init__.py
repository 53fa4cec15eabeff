"""Embedded stand-ins for Entra ID, managed identity and Azure OpenAI.

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
    from lightspeed_azure.emulators.azure_openai import AzureOpenAIEmulator, AzureRequests
    from lightspeed_azure.emulators.directory import (
        Application,
        ClientSecret,
        FederatedCredential,
    )
    from lightspeed_azure.emulators.entra import EntraEmulator, EntraRequests
    from lightspeed_azure.emulators.faults import Fault
    from lightspeed_azure.emulators.imds import ImdsEmulator, ImdsRequests, ManagedIdentity
    from lightspeed_azure.emulators.standalone import serve
    from lightspeed_azure.emulators.suite import Emulators
    from lightspeed_azure.emulators.tokens import fingerprint

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
    "ManagedIdentity",
    "fingerprint",
    "serve",
]

_HOMES = {
    "Application": "directory",
    "AzureOpenAIEmulator": "azure_openai",
    "AzureRequests": "azure_openai",
    "ClientSecret": "directory",
    "Emulators": "suite",
    "EntraEmulator": "entra",
    "EntraRequests": "entra",
    "Fault": "faults",
    "FederatedCredential": "directory",
    "ImdsEmulator": "imds",
    "ImdsRequests": "imds",
    "ManagedIdentity": "imds",
    "fingerprint": "tokens",
    "serve": "standalone",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first used."""
    import importlib  # noqa: PLC0415 - costs time only where an emulator is used

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
