"""The resolver `vault`: hvac itself against a server that speaks Vault's protocol over TLS."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from key_stores import KeyStores, key_stores_fixture
from kubernetes_volume import KubernetesVolume
from pydantic import SecretStr
from resolving import Hook, hook_fixture
from signing_in import emu_fixture
from token_cache_fakes import FakeClock

from lightspeed_azure.config.vaults import VaultConfiguration
from lightspeed_azure.emulators import Fault
from lightspeed_azure.errors import CredentialResolutionError, InvalidConfigurationError
from lightspeed_azure.keys import get_api_key, resolve_credential
from lightspeed_azure.keys.vault import VaultResolver

__all__ = ["emu_fixture", "hook_fixture", "key_stores_fixture"]

type Make = Callable[..., VaultResolver]


@pytest.fixture(name="clock")
def clock_fixture() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(name="make")
def make_fixture(emu: KeyStores, clock: FakeClock) -> Make:
    """Return resolvers for the emulator; service and client have one clock."""
    emu.clock = clock.wall

    def make(**options: Any) -> VaultResolver:
        given = {"url": emu.vault.endpoint, "ca_bundle": emu.ca_bundle, **options}
        if not {"token", "token_path", "kubernetes"} & options.keys():
            given["token"] = emu.vault.token
        return VaultResolver(VaultConfiguration(**given), clock=clock)

    return make


def key(provider_id: str = "openai", field: str = "openai_api_key") -> str | None:
    """Ask for a key."""
    found = resolve_credential(provider_id, field)
    return found.get_secret_value() if found else None


def fault_of(hook: Hook, provider_id: str = "openai") -> str:
    """Ask for a key and return what is wrong."""
    with pytest.raises(CredentialResolutionError) as caught:
        resolve_credential(provider_id, "openai_api_key")
    assert hook.registry.status()[0].last_error in {"unavailable", "line_break", "not_text"}
    return str(caught.value)


def test_a_key_comes_out_of_the_engine(hook: Hook, emu: KeyStores, make: Make) -> None:
    """By provider and field; a service's under `api_key`; the newest version, without line break."""
    emu.vault.write("openai", openai_api_key="old")
    emu.vault.write("openai", openai_api_key="of-vault\n", api_key="of-the-service")
    with hook.registered(make()):
        assert key() == "of-vault"
        found = get_api_key("openai")
        assert found is not None
        assert found.get_secret_value() == "of-the-service"
        emu.vault.write("openai", openai_api_key="rotated")
        assert key() == "rotated"


def test_what_is_not_there_comes_from_the_environment(
    hook: Hook, emu: KeyStores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret, no such key in it, or a deleted version: the resolver passes."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    with hook.registered(make(), on_error="fail"):
        assert key() == "of-the-environment"
        emu.vault.write("openai", another="x")
        assert key() == "of-the-environment"
        version = emu.vault.write("openai", openai_api_key="of-vault")
        assert key() == "of-vault"
        emu.vault.delete("openai", version)
        assert key() == "of-the-environment"


def test_path_key_mount_namespace_and_version_are_chosen(
    hook: Hook, emu: KeyStores, make: Make
) -> None:
    """Templates say where a key lies; a path may be pinned to a version."""
    emu.vault.mount, emu.vault.namespace = "teams/kv", "admin/ai"
    emu.vault.write("lightspeed/openai", token_openai_api_key="first")
    emu.vault.write("lightspeed/openai", token_openai_api_key="second")
    options = {
        "mount": "teams/kv",
        "namespace": "admin/ai",
        "path": "lightspeed/{provider_id}",
        "key": "token_{field}",
    }
    with hook.registered(make(**options)):
        assert key() == "second"
    with hook.registered(make(**options, versions={"lightspeed/openai": 1})):
        assert key() == "first"


def test_two_providers_never_share_a_place(hook: Hook, emu: KeyStores, make: Make) -> None:
    """Where a template would give one provider another's key, it is an error."""
    emu.vault.write("xab", k="of-the-first")
    resolver = make(path="{field}{provider_id}", key="k")
    with hook.registered(resolver, on_error="fail"):
        assert key("ab", "x") == "of-the-first"
        with pytest.raises(CredentialResolutionError, match="holds a key of provider ab already"):
            key("b", "xa")


@pytest.mark.parametrize("provider", ["../sys", "a/b", "..", "a b", "a\nb", "%2e%2e"])
def test_a_name_cannot_lead_elsewhere(
    hook: Hook, emu: KeyStores, make: Make, provider: str
) -> None:
    """Only letters, digits, `.`, `_` and `-`; nothing is sent."""
    with (
        hook.registered(make(), on_error="fail"),
        pytest.raises(CredentialResolutionError, match="letters, digits"),
    ):
        resolve_credential(provider, "openai_api_key")
    assert emu.vault.requests.of("read") == 0


def test_a_token_file_is_read_again(hook: Hook, emu: KeyStores, make: Make, tmp_path: Path) -> None:
    """The next question carries what an agent wrote meanwhile, and no 403 comes before it."""
    emu.vault.write("openai", openai_api_key="of-vault")
    volume = KubernetesVolume(tmp_path / "vault", token=emu.vault.token.get_secret_value())
    with hook.registered(make(token_path=volume.path), on_error="fail"):
        assert key() == "of-vault"
        emu.vault.revoke_tokens()
        volume.swap(token=emu.vault.create_token(ttl=60).get_secret_value())
        assert key() == "of-vault"
    assert "403" not in emu.vault.requests.by("status")


def kubernetes(emu: KeyStores, folder: Path) -> dict[str, Any]:
    """Return a login as a pod has it."""
    emu.vault.service_accounts = {"jwt-of-the-pod": "lightspeed"}
    volume = KubernetesVolume(folder / "sa", token="jwt-of-the-pod")
    return {"kubernetes": {"role": "lightspeed", "token_path": volume.path, "mount": "ocp"}}


def test_a_pod_signs_in_renews_and_signs_in_again(
    hook: Hook, emu: KeyStores, make: Make, clock: FakeClock, tmp_path: Path
) -> None:
    """One login for all; renewed at half its life; after a revocation or its end another login."""
    emu.vault.write("openai", openai_api_key="of-vault")
    emu.vault.token_ttl = 100
    with hook.registered(make(**kubernetes(emu, tmp_path)), on_error="fail"):
        assert [key(), key()] == ["of-vault"] * 2
        assert (emu.vault.requests.of("login"), emu.vault.requests.of("renew")) == (1, 0)
        assert "/v1/auth/ocp/login" in emu.vault.requests.by("path")
        clock.wall_now += 51
        clock.mono_now += 51
        assert [key(), key()] == ["of-vault"] * 2
        assert (emu.vault.requests.of("login"), emu.vault.requests.of("renew")) == (1, 1)
        emu.vault.revoke_tokens()
        assert key() == "of-vault"
        assert emu.vault.requests.of("login") == 2
        clock.wall_now += 200
        clock.mono_now += 200
        assert key() == "of-vault"
        assert emu.vault.requests.of("login") == 3


def test_a_projected_token_is_read_at_each_login(
    hook: Hook, emu: KeyStores, make: Make, tmp_path: Path
) -> None:
    """The kubelet rotates it; a login carries the newest."""
    emu.vault.write("openai", openai_api_key="of-vault")
    login = kubernetes(emu, tmp_path)
    volume = KubernetesVolume(tmp_path / "projected", token="jwt-of-the-pod")
    login["kubernetes"]["token_path"] = volume.path / "token"
    with hook.registered(make(**login), on_error="fail"):
        assert key() == "of-vault"
        emu.vault.service_accounts = {"jwt-of-later": "lightspeed"}
        volume.swap(token="jwt-of-later")
        emu.vault.revoke_tokens()
        assert key() == "of-vault"


def test_a_given_token_is_renewed(hook: Hook, emu: KeyStores, make: Make, clock: FakeClock) -> None:
    """At half of what Vault says is left of it; one that cannot be renewed is used to its end."""
    emu.vault.write("openai", openai_api_key="of-vault")
    with hook.registered(make(token=emu.vault.create_token(ttl=100)), on_error="fail"):
        for _ in range(5):
            assert key() == "of-vault"
            clock.wall_now += 60
            clock.mono_now += 60
    assert emu.vault.requests.of("renew") == 4
    with hook.registered(make(token=emu.vault.create_token(ttl=100, renewable=False))):
        assert key() == "of-vault"
        clock.wall_now += 60
        clock.mono_now += 60
        assert key() == "of-vault"
    assert emu.vault.requests.of("renew") == 4


def test_a_crowd_after_a_revocation_signs_in_once(
    hook: Hook, emu: KeyStores, make: Make, tmp_path: Path
) -> None:
    """Six providers that are refused together share one login."""
    names = [f"p{n}" for n in range(6)]
    for name in names:
        emu.vault.write(name, openai_api_key=f"of-{name}")
    found = []
    with hook.registered(make(**kubernetes(emu, tmp_path)), on_error="fail"):
        key("p0")
        emu.vault.revoke_tokens()
        crowd = [threading.Thread(target=lambda n=n: found.append(key(n))) for n in names]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join(10)
    assert sorted(map(str, found)) == [f"of-{name}" for name in names]
    assert emu.vault.requests.of("login") == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.status(503), "sealed or down (503)"),
        (Fault.status(429), "too many requests (429)"),
        (Fault.status(500), "InternalServerError"),
        (Fault.status(307), "does url lead to its active node?"),
        (Fault.reset(), ": the connection broke. Check what stands between here and url"),
        (Fault.truncated(), "Vault"),
        (Fault.not_json(), "does url lead to its active node?"),
    ],
    ids=lambda value: getattr(value, "outcome", None),
)
def test_an_outage_is_said_in_words(
    hook: Hook, emu: KeyStores, make: Make, fault: Fault, says: str
) -> None:
    """And the answer from before stands in for it."""
    emu.vault.write("openai", openai_api_key="of-vault")
    emu.vault.write("other", openai_api_key="of-vault")
    with hook.registered(make(), on_error="fail", ttl=60, failures=9, rest=0):
        assert key() == "of-vault"
        emu.vault.fault(fault)
        assert says in fault_of(hook, "other")
        hook.scheduler.advance(61)
        assert key() == "of-vault"


def test_a_sealed_vault_is_left_alone(
    hook: Hook, emu: KeyStores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three failures nothing is sent; the environment answers."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    emu.vault.sealed = True
    with hook.registered(make()):
        assert {key() for _ in range(20)} == {"of-the-environment"}
    assert emu.vault.requests.by("status")["503"] <= 6


def test_a_policy_that_forbids_is_told_with_its_cure(
    hook: Hook, emu: KeyStores, make: Make, tmp_path: Path
) -> None:
    """The error shows the line that the policy lacks; the secret is not asked for again at once."""
    emu.vault.write("openai", openai_api_key="of-vault")
    emu.vault.write("other", openai_api_key="of-vault")
    token = emu.vault.create_token(ttl=600, paths=frozenset({"other"}))
    with hook.registered(make(token=token), on_error="fail"):
        said = fault_of(hook)
        assert 'path "secret/data/openai" {capabilities=["read"]}' in said
        asked = emu.vault.requests.of("read")
        fault_of(hook)
        assert emu.vault.requests.of("read") == asked
        assert key("other") == "of-vault"


def test_a_refused_login_is_told(hook: Hook, emu: KeyStores, make: Make, tmp_path: Path) -> None:
    """With what to check."""
    login = kubernetes(emu, tmp_path)
    emu.vault.service_accounts = {}
    with hook.registered(make(**login), on_error="fail"):
        assert "refuses the Kubernetes login; check role" in fault_of(hook)


@pytest.mark.parametrize("status", [400, 404], ids=["no such role", "no such mount"])
def test_a_login_that_leads_nowhere_is_told(
    hook: Hook, emu: KeyStores, make: Make, tmp_path: Path, status: int
) -> None:
    """Vault has other statuses than 403 for a role, or a mount, that is not there."""
    emu.vault.fault(Fault.status(status), on="login")
    with hook.registered(make(**kubernetes(emu, tmp_path)), on_error="fail"):
        assert "refuses the Kubernetes login; check role, mount" in fault_of(hook)


def test_a_stranger_in_vaults_place_gets_no_token(hook: Hook, emu: KeyStores, make: Make) -> None:
    """A certificate that is not trusted ends it before anything is sent."""
    emu.vault.write("openai", openai_api_key="of-vault")
    with hook.registered(make(ca_bundle=None), on_error="fail"):
        assert ": its certificate is not trusted: " in fault_of(hook)
    assert emu.vault.requests.of("lookup") + emu.vault.requests.of("read") == 0


@pytest.mark.parametrize(
    ("value", "reason"), [("two\nlines", "line_break"), (7, "not_text"), ({"a": "b"}, "not_text")]
)
def test_what_is_no_key_goes_nowhere(
    hook: Hook, emu: KeyStores, make: Make, value: object, reason: str
) -> None:
    """Whatever somebody wrote into the engine."""
    emu.vault.write("openai", openai_api_key=value)
    with hook.registered(make(), on_error="fail"):
        fault_of(hook)
        assert hook.registry.status()[0].last_error == reason


def test_tokens_of_the_environment_are_not_used(
    hook: Hook, emu: KeyStores, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only what the block says: neither VAULT_TOKEN nor ~/.vault-token."""
    monkeypatch.setenv("VAULT_TOKEN", emu.vault.token.get_secret_value())
    with hook.registered(make(token=SecretStr("hvs.wrong")), on_error="fail"):
        assert "Vault refuses (403)" in fault_of(hook)


def test_a_redirect_takes_no_token_along(hook: Hook, emu: KeyStores, make: Make) -> None:
    """A standby node may point elsewhere; nothing is sent there."""
    emu.vault.active_node = emu.azure.endpoint
    with hook.registered(make(), on_error="fail"):
        assert "does url lead to its active node?" in fault_of(hook)
    assert emu.azure.requests.total == 0


@pytest.mark.parametrize("endpoint", ["login", "lookup", "renew", "read"])
def test_an_answer_that_drips_holds_up_nobody_else(  # noqa: PLR0917 - fixtures
    hook: Hook, emu: KeyStores, make: Make, tmp_path: Path, clock: FakeClock, endpoint: str
) -> None:
    """A byte now and then is no progress: the exchange ends at the time limit, and its thread too."""
    for name in ("first", "second"):
        emu.vault.write(name, openai_api_key=f"of-{name}")
    token = emu.vault.create_token(ttl=100, renewable=True)
    options = kubernetes(emu, tmp_path) if endpoint == "login" else {"token": token}
    with hook.registered(make(**options), timeout=0.5, failures=99):
        if endpoint == "renew":
            assert key("first") == "of-first"
            clock.wall_now += 60
            clock.mono_now += 60
        asked = emu.vault.requests.of(endpoint)
        on = "token" if endpoint in ("lookup", "renew") else endpoint
        emu.vault.fault(Fault.drip(0.2), times=1, on=on)
        slow = threading.Thread(target=key, args=("first",))
        slow.start()
        begun = time.monotonic()
        while emu.vault.requests.of(endpoint) == asked:
            assert time.monotonic() - begun < 10
            time.sleep(0.005)
        if endpoint in ("renew", "read"):
            assert key("second") == "of-second"  # meanwhile, with the token that still lasts
        slow.join()
        begun = time.monotonic()
        while any(each.name.startswith("lightspeed-azure-vault") for each in threading.enumerate()):
            assert time.monotonic() - begun < 10, "the whole answer takes a minute"
            time.sleep(0.01)
        assert key("second") == "of-second"


def test_what_is_not_there_is_told_with_its_place(hook: Hook, emu: KeyStores, make: Make) -> None:
    """The secret and the key that were asked for; nothing once the resolver answers."""
    with hook.registered(make(path="team/{provider_id}")):

        def told() -> tuple[str | None, str]:
            return key(), hook.registry.status()[0].last_pass

        assert told() == (
            None,
            "Vault has no secret secret/team/openai, in which the key openai_api_key would be",
        )
        emu.vault.write("team/openai", other="x")
        assert told() == (None, "the secret secret/team/openai in Vault has no key openai_api_key")
        emu.vault.write("team/openai", openai_api_key="of-vault")
        assert told() == ("of-vault", "")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"url": "https://v:8200/v1"}, "url: must end before /v1 or /ui: give the address of Vault alone"),
        ({"url": "https://v/ui/vault"}, "url: must end before /v1 or /ui: give the address of Vault alone"),
        ({"mount": "secret/data"}, "mount: must name the mount alone, such as secret: without v1/ and /data"),
        ({"mount": "a b"}, "mount: must be a path such as team/secret, without spaces, .., ?, # and %"),
        ({"mount": "../sys"}, "mount: must be a path such as team/secret, without spaces, .., ?, # and %"),
        ({"path": "data/{provider_id}"}, "path: must begin below the mount: without v1/ and data/, which are added"),
        ({"path": "{provider_id}//x"}, "path: must be a path such as team/secret, without spaces, .., ?, # and %"),
        ({"path": "{provider_id}?version=1"}, "path: must be a path such as team/secret, without spaces, .., ?, # and %"),
        ({"token": None, "kubernetes": {"role": "r", "mount": "auth/kubernetes"}},
         "kubernetes.mount: must name the mount alone, such as kubernetes: without auth/ and /login"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_right_is_refused(options: dict[str, Any], problem: str) -> None:
    """By whatever reads the configuration, so when the service starts."""
    with pytest.raises(InvalidConfigurationError) as caught:
        VaultConfiguration(**{"url": "https://v:8200", "token": "t", **options})
    assert str(caught.value) == problem


def test_a_place_may_be_written_with_slashes_around_it() -> None:
    """As `vault secrets list` prints a mount; a proxy may serve Vault below a path."""
    options = VaultConfiguration(
        url="https://x/vault/", token=SecretStr("t"), mount="secret/", path="/team/{provider_id}/"
    )
    assert (options.url, options.mount, options.path) == (
        "https://x/vault",
        "secret",
        "team/{provider_id}",
    )
