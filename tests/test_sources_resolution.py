"""`source: {plugin: NAME}` through the real hook for resolvers."""

from lightspeed_azure.resolution import Answer, Question, registered
from lightspeed_azure.sources import ProviderCredentials


class Vault:
    """A resolver that knows one key."""

    def before(self, question: Question) -> Answer:
        """Answer."""
        return Answer(f"key-from-vault-for-{question.provider_id}")


async def test_a_registered_resolver_gives_the_key() -> None:
    """The resolver of that name is asked for the provider of the request, and its answer is sent."""
    found = ProviderCredentials([{"provider_id": "mine", "source": {"plugin": "vault"}}])
    keys = found.keys("mine", "remote::vllm", None, "ogx")
    assert keys is not None
    with registered(Vault(), name="vault"):
        assert await keys.data() == {"vllm_api_token": "key-from-vault-for-mine"}
