"""What a holder makes of what its stack says of itself."""

import logging
from typing import Protocol

from lightspeed_azure.clients.stack_catalog import Listing
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_logger = logging.getLogger(__name__)


class Holding(Protocol):
    """What is needed of a holder."""

    @property
    def manager(self) -> AzureEntraIDManager:
        """The manager whose tokens the requests carry."""

    @property
    def provider_credentials(self) -> ProviderCredentials:
        """The keys of other providers."""


class Named(Protocol):
    """What is needed of a generation of the stack."""

    @property
    def family(self) -> str:
        """Its name."""


def learned(holder: Holding, generation: Named, listing: Listing) -> None:
    """Take the endpoint over from the stack's first Azure provider, unless somebody set one.

    And say which of the configured keys do not fit the stack's providers.
    """
    first = next(iter(listing.azure_providers), None)
    if first is not None and first.base_url and holder.manager.azure_base_url is None:
        holder.manager.set_base_url(first.base_url)
    providers = {each.provider_id: each.provider_type for each in listing.providers.values()}
    for problem in holder.provider_credentials.news(providers, generation.family):
        _logger.warning("%s", problem)
