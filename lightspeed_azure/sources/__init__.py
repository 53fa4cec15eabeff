"""Keys of other providers, looked up at the moment a request is sent."""

from lightspeed_azure.sources.provider_credentials import (
    CredentialStatus,
    ProviderCredentials,
)
from lightspeed_azure.sources.provider_keys import ProviderKeys

__all__ = ["CredentialStatus", "ProviderCredentials", "ProviderKeys"]
