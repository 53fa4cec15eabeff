"""The resolver `keyvault`: azure-keyvault-secrets itself, signed in with our own identities."""

from collections.abc import Callable
from typing import Any

import pytest
from key_stores import KeyStores, key_stores_fixture
from resolving import Hook, hook_fixture
from signing_in import configured, emu_fixture

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.config.vaults import KeyVaultConfiguration
from lightspeed_azure.emulators import Fault
from lightspeed_azure.errors import CredentialResolutionError
from lightspeed_azure.keys import resolve_credential
from lightspeed_azure.keys.key_vault import EntraCredential, KeyVaultResolver

__all__ = ["emu_fixture", "hook_fixture", "key_stores_fixture"]

type Make = Callable[..., KeyVaultResolver]


@pytest.fixture(name="make")
def make_fixture(emu: KeyStores) -> Make:
    """Return resolvers for the emulator, which is on localhost and so not below its resource."""

    def make(**options: Any) -> KeyVaultResolver:
        given = {
            "url": emu.key_vault.endpoint,
            "ca_bundle": emu.ca_bundle,
            "verify_challenge_resource": False,
            **options,
        }
        secret = emu.entra.application.client_secret
        identity = configured(emu, client_secret=secret, provider_id="azure", deadline=5)
        return KeyVaultResolver(KeyVaultConfiguration(**given), [identity])

    return make


def key(provider_id: str = "openai", field: str = "openai_api_key") -> str | None:
    """Ask for a key."""
    found = resolve_credential(provider_id, field)
    return found.get_secret_value() if found else None


def fault_of(provider_id: str = "openai") -> CredentialResolutionError:
    """Ask for a key and return what is wrong."""
    with pytest.raises(CredentialResolutionError) as caught:
        resolve_credential(provider_id, "openai_api_key")
    return caught.value


def test_a_key_comes_out_of_the_vault(hook: Hook, emu: KeyStores, make: Make) -> None:
    """With one token for Key Vault's own scope, and one challenge for all questions."""
    emu.key_vault.write("openai-openai-api-key", "old")
    emu.key_vault.write("openai-openai-api-key", "of-key-vault\n")
    emu.key_vault.write("my-watsonx-watsonx-api-key", "another")
    with hook.registered(make(), on_error="fail"):
        assert key() == "of-key-vault"
        assert key("my_watsonx", "watsonx_api_key") == "another"
        emu.key_vault.write("openai-openai-api-key", "rotated")
        assert key() == "rotated"
    assert emu.entra.requests.issued == 1
    assert emu.key_vault.requests.of("challenged") == 1


def test_what_is_not_there_comes_from_the_environment(
    hook: Hook, emu: KeyStores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver passes, and nothing counts as a failure."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    with hook.registered(make(), on_error="fail"):
        assert key() == "of-the-environment"
        assert hook.registry.status()[0].passes == 1


def test_name_and_version_are_chosen(hook: Hook, emu: KeyStores, make: Make) -> None:
    """A template says what a secret is called; one may be pinned to a version."""
    version = emu.key_vault.write("stack-openai", "first")
    emu.key_vault.write("stack-openai", "second")
    with hook.registered(make(secret_name="stack-{provider_id}")):
        assert key() == "second"
    with hook.registered(
        make(secret_name="stack-{provider_id}", versions={"stack-openai": version})
    ):
        assert key() == "first"


def test_two_providers_never_share_a_secret(hook: Hook, emu: KeyStores, make: Make) -> None:
    """`my_openai` and `my-openai` would read the same one."""
    emu.key_vault.write("my-openai-openai-api-key", "of-the-first")
    with hook.registered(make(), on_error="fail"):
        assert key("my_openai") == "of-the-first"
        with pytest.raises(CredentialResolutionError, match="key of provider my_openai already"):
            key("my-openai")
        with pytest.raises(CredentialResolutionError, match="key of provider my_openai already"):
            key("My_OpenAI")  # Key Vault tells no upper case from lower


def test_a_field_that_is_no_key_never_shares_a_keys_secret(
    hook: Hook, emu: KeyStores, make: Make
) -> None:
    """A template without the field would put the key into a URL's place."""
    emu.key_vault.write("azure", "the-key")
    with hook.registered(make(secret_name="{provider_id}"), on_error="fail"):
        assert key("azure", "azure_api_key") == "the-key"
        with pytest.raises(CredentialResolutionError, match="holds a key of provider azure"):
            key("azure", "azure_api_base")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda emu: emu.key_vault.disable("openai-openai-api-key"), ("HTTP 403 Forbidden", False)),
        (lambda emu: setattr(emu.key_vault, "readers", frozenset()), ("Secrets User", False)),
        (lambda emu: emu.key_vault.fault(Fault.status(500)), ("HTTP 500", True)),
        (lambda emu: emu.key_vault.fault(Fault.status(307)), ("HTTP 307", True)),
        (lambda emu: emu.key_vault.fault(Fault.status(429, 7)), ("too many requests", True)),
        (lambda emu: emu.key_vault.fault(Fault.reset()), ("cannot be reached", True)),
        (lambda emu: emu.entra.fault(Fault.status(503)), ("no token: ", True)),
        (lambda emu: emu.entra.rotate_secret(), ("AADSTS7000215", True)),
    ],
)
def test_what_goes_wrong_is_said_in_words(
    hook: Hook,
    emu: KeyStores,
    make: Make,
    prepare: Callable[[KeyStores], object],
    expected: tuple[str, bool],
) -> None:
    """With its cure; only what is down counts for the breaker."""
    says, down = expected
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    resolver = make()
    prepare(emu)
    with hook.registered(resolver, on_error="fail", failures=1, rest=60):
        error = fault_of()
        assert says in str(error)
        assert "of-key-vault" not in str(error)
        assert hook.registry.status()[0].breaker == ("open" if down else "closed")


def test_retry_after_is_kept(hook: Hook, emu: KeyStores, make: Make) -> None:
    """Key Vault's own word on when to come back counts."""
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    emu.key_vault.fault(Fault.status(429, retry_after=7), times=1)
    with hook.registered(make(), on_error="fail"):
        assert fault_of().retry_after == 7
        hook.scheduler.advance(6.9)
        assert fault_of().reason == "resting"
        hook.scheduler.advance(0.1)
        assert key() == "of-key-vault"


def test_a_token_that_is_refused_is_renewed(hook: Hook, emu: KeyStores, make: Make) -> None:
    """After a 401 the next question carries another token."""
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    with hook.registered(make(), on_error="fail"):
        assert key() == "of-key-vault"
        emu.azure.revoke_all_issued_before_now()
        assert "HTTP 401" in str(fault_of())
        hook.scheduler.advance(10)
        assert key() == "of-key-vault"


def test_the_challenge_must_be_of_the_vaults_own_domain(
    hook: Hook, emu: KeyStores, make: Make
) -> None:
    """As Azure's client checks it, unless the operator says otherwise; no token is sent."""
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    with hook.registered(make(verify_challenge_resource=True), on_error="fail"):
        assert "challenge is not for its own host" in str(fault_of())
    assert emu.key_vault.requests.of("read") == 0


def test_a_challenge_does_not_choose_the_scope(hook: Hook, emu: KeyStores, make: Make) -> None:
    """A server in Key Vault's place gets no token for Azure's management."""
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    emu.key_vault.resource = "https://management.azure.com"
    with hook.registered(make(), on_error="fail"):
        assert key() == "of-key-vault"  # the emulator takes none for another resource than its own


def test_a_stranger_in_key_vaults_place_gets_no_token(
    hook: Hook, emu: KeyStores, make: Make
) -> None:
    """A certificate that is not trusted ends it."""
    with hook.registered(make(ca_bundle=None), on_error="fail"):
        assert ": its certificate is not trusted: " in str(fault_of())
    assert emu.key_vault.requests.of("challenged") == 0


def test_the_identity_is_chosen(hook: Hook, emu: KeyStores, make: Make) -> None:
    """By its provider_id; without any in the configuration, the process-wide manager's."""
    emu.key_vault.write("openai-openai-api-key", "of-key-vault")
    with hook.registered(make(identity="azure"), on_error="fail"):
        assert key() == "of-key-vault"
    with hook.registered(make(identity="west"), on_error="fail"):
        assert "none with provider_id: west" in str(fault_of())
    options = KeyVaultConfiguration(
        url=emu.key_vault.endpoint, ca_bundle=emu.ca_bundle, verify_challenge_resource=False
    )
    identity = configured(emu, client_secret=emu.entra.application.client_secret)
    with (
        AzureEntraIDManager.replaced(AzureEntraIDManager.isolated(identity)),
        hook.registered(KeyVaultResolver(options)),
    ):
        assert key() == "of-key-vault"
    with (
        AzureEntraIDManager.replaced(AzureEntraIDManager.isolated()),
        hook.registered(KeyVaultResolver(options), on_error="fail"),
    ):
        assert "none is configured" in str(fault_of())


def test_a_credential_has_one_scope(emu: KeyStores) -> None:
    """It is good for Azure's own clients, and for nothing but what it was made for."""
    identity = configured(emu, client_secret=emu.entra.application.client_secret)
    credential = EntraCredential(identity, "https://vault.azure.net/.default")
    token = credential.get_token("https://vault.azure.net/.default", tenant_id="x", claims=None)
    assert token.token not in repr(credential)
    assert credential.get_token("https://management.azure.com/.default").token == token.token
