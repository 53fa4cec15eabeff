"""What the requests for one provider carry."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.errors import InvalidConfigurationError, KeyUnavailableError
from lightspeed_azure.keys.key_source import KeySource
from lightspeed_azure.secrets import RedactedDict
from lightspeed_azure.tokens.identity import Identity

_SECRET = ("_key", "_token", "_bedrock")


def is_secret(field: str | None) -> bool:
    """Return whether a field holds a key; None is the provider's key, whatever its name."""
    return field is None or field.endswith(_SECRET)


class ProviderKeys:
    """What the requests for one provider carry.

    Args:
        provider_id: the provider.
        fields: field → its source.
        base_url: where its requests go, which `remote::azure` wants beside the key.
        alias: a field that stands for the key, too, on stacks that read one for each provider.
    """

    def __init__(
        self,
        provider_id: str,
        fields: Mapping[str, KeySource],
        *,
        base_url: str | None,
        alias: str | None,
    ) -> None:
        self.provider_id = provider_id
        self._fields = fields
        self._base_url = base_url
        self._alias = alias

    def replace(self, identity: Identity | None) -> bool:
        """Return whether the provider's requests carry these, and not the identity's token.

        Args:
            identity: the one that would serve the provider; one that names it wins.
        """
        if identity is None:
            return True
        return "azure_api_key" in self._fields and identity.provider_id != self.provider_id

    async def data(self, given: Collection[str] = ()) -> dict[str, Any]:
        """Return the fields as they are now.

        Args:
            given: what the caller fills; it is neither looked up nor returned.

        Raises:
            TokenError: one cannot be had, and is not optional; the request must not be sent.
        """
        found = RedactedDict()
        theirs = {name.lower() for name in given}
        for field, source in self._fields.items():
            if field.lower() in theirs or (self._alias in theirs and is_secret(field)):
                continue
            value = await source.get(self.provider_id, field)
            if value is not None:
                found[field] = value.get_secret_value()
            elif not source.credential.optional:
                raise KeyUnavailableError(
                    f"provider_credentials {source.credential.name}: {source.aging.fault}",
                    cure="The request was not sent",
                )
        if "azure_api_key" in found and "azure_api_base" not in self._fields:
            found["azure_api_base"] = self._endpoint()
        return found

    def refused(self, sent: Mapping[str, Any]) -> None:
        """Take note that the provider did not accept what was sent."""
        for field, source in self._fields.items():
            if field in sent:
                source.refused(SecretStr(sent[field]), self.provider_id)

    def accepted(self, sent: Mapping[str, Any]) -> None:
        """Take note that the provider accepted what was sent."""
        for field, source in self._fields.items():
            if field in sent:
                source.accepted(SecretStr(sent[field]), self.provider_id)

    def _endpoint(self) -> str:
        if self._base_url is None:
            raise InvalidConfigurationError(
                f"Provider {self.provider_id!r} has no base_url; the stack takes no key "
                "without one: add config.base_url to the provider"
            )
        return self._base_url
