"""The clouds of Azure, with their authorities and default scopes.

Source: `azure.identity.AzureAuthorityHosts` (1.27) and
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/managed-identity for the scopes.
"""

from dataclasses import dataclass
from typing import Literal

CloudName = Literal["public", "us_government", "china"]


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud.

    Attributes:
        name: as configured.
        authority: the https URL of its Entra ID.
        scope: the scope of a token for Azure OpenAI.
    """

    name: CloudName
    authority: str
    scope: str


CLOUDS: dict[str, Cloud] = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            "public",
            "https://login.microsoftonline.com",
            "https://cognitiveservices.azure.com/.default",
        ),
        Cloud(
            "us_government",
            "https://login.microsoftonline.us",
            "https://cognitiveservices.azure.us/.default",
        ),
        Cloud(
            "china",
            "https://login.chinacloudapi.cn",
            "https://cognitiveservices.azure.cn/.default",
        ),
    )
}

_BY_AUTHORITY = {cloud.authority: cloud for cloud in CLOUDS.values()} | {
    # The other names that MSAL knows for the same two services (msal.authority.WELL_KNOWN_AUTHORITY_HOSTS).
    "https://login.windows.net": CLOUDS["public"],
    "https://login.microsoft.com": CLOUDS["public"],
    "https://sts.windows.net": CLOUDS["public"],
    "https://login.partner.microsoftonline.cn": CLOUDS["china"],
    "https://login.usgovcloudapi.net": CLOUDS["us_government"],
}


def cloud_of(authority: str) -> Cloud | None:
    """Return the cloud that an authority belongs to, or None for a private one."""
    return _BY_AUTHORITY.get(authority)
