"""`source: {plugin: NAME}` through the real hook for resolvers."""

import pytest
from resolving import Hook, hook_fixture

from lightspeed_azure.errors import KeyUnavailableError
from lightspeed_azure.keys import Answer, HookCall, registered
from lightspeed_azure.keys.provider_credentials import ProviderCredentials

__all__ = ["hook_fixture"]


class Vault:
    """A resolver that knows one key."""

    def before(self, question: HookCall) -> Answer:
        """Answer."""
        return Answer(f"key-from-vault-for-{question.provider_id}")


async def test_a_registered_resolver_gives_the_key() -> None:
    """The resolver of that name is asked for the provider of the request, and its answer is sent."""
    found = ProviderCredentials([{"provider_id": "mine", "source": {"plugin": "vault"}}])
    keys = found.keys("mine", "remote::vllm", None, "ogx")
    assert keys is not None
    with registered(Vault(), name="vault"):
        assert await keys.data() == {"vllm_api_token": "key-from-vault-for-mine"}


async def test_a_key_that_the_provider_refuses_is_asked_for_again(hook: Hook) -> None:
    """Its resolver's answer does not last to its end; while the resolver fails it stands in."""
    said: list[object] = [Answer("old-key")]

    def vault(_: HookCall) -> object:
        if isinstance(said[0], Exception):
            raise said[0]
        return said[0]

    found = ProviderCredentials([{"provider_id": "mine", "source": {"plugin": "vault"}}])
    keys = found.keys("mine", "remote::vllm", None, "llama-stack")
    assert keys is not None
    with hook.registered(vault, name="vault", ttl=3600, failures=9):
        old = await keys.data()
        said[0] = RuntimeError("down")
        keys.refused(old)
        assert await keys.data() == old
        said[0] = Answer("new-key")
        assert await keys.data() == {"vllm_api_token": "new-key"}
        said[0] = RuntimeError("down")
        assert await keys.data() == {"vllm_api_token": "new-key"}


async def test_a_refused_key_is_asked_for_again_at_once_unless_it_is_given_again(
    hook: Hook,
) -> None:
    """However new it is; a resolver that returns it once more is believed for a second."""
    said: list[object] = [Answer("old-key")]
    asked: list[HookCall] = []

    def vault(question: HookCall) -> object:
        asked.append(question)
        return said[0]

    found = ProviderCredentials([{"provider_id": "mine", "source": {"plugin": "vault"}}])
    keys = found.keys("mine", "remote::vllm", None, "llama-stack")
    assert keys is not None
    with hook.registered(vault, name="vault", ttl=30):
        old = await keys.data()
        said[0] = Answer("new-key")
        keys.refused({"vllm_api_token": "another-key"})
        assert await keys.data() == old
        keys.refused(old)
        new = await keys.data()
        assert new == {"vllm_api_token": "new-key"}
        assert len(asked) == 2
        for _ in range(20):
            keys.refused(new)
            assert await keys.data() == new
        assert len(asked) == 3
        said[0] = Answer("newer-key")
        hook.scheduler.advance(1)
        keys.refused(new)
        assert await keys.data() == {"vllm_api_token": "newer-key"}
        said[0] = Answer("newest-key")
        keys.refused({"vllm_api_token": "newer-key"})
        assert await keys.data() == {"vllm_api_token": "newest-key"}


async def test_what_is_said_of_a_resolver_that_gave_nothing(hook: Hook) -> None:
    """A failing one is not said to have no key, nor told to do what it does already."""

    def broken(_: HookCall) -> object:
        raise OSError

    found = ProviderCredentials([{"provider_id": "mine", "source": {"plugin": "vault"}}])
    keys = found.keys("mine", "remote::vllm", None, "llama-stack")
    assert keys is not None
    with hook.registered(broken, name="vault"):
        with pytest.raises(KeyUnavailableError, match="gave no key, and the environment has none"):
            await keys.data()
        assert hook.registry.status()[0].last_error_text == "raised OSError; look into its own log"
