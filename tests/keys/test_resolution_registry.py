"""Where resolvers come from: installed packages, the operator's file, run time."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from resolving import Hook, hook_fixture

from lightspeed_azure.config import Configuration, configuration_from_mapping, load_configuration
from lightspeed_azure.errors import CredentialResolutionError, InvalidConfigurationError
from lightspeed_azure.fastapi import lifespan
from lightspeed_azure.keys import (
    PASS,
    Answer,
    HookCall,
    ResolverRegistry,
    aget_api_key,
    configured,
    get_api_key,
    registry_replaced,
)
from lightspeed_azure.keys.registry import installed

__all__ = ["hook_fixture"]


class PlugIn:
    """An entry point."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name = name
        self._load = load
        self.loads = 0

    def load(self) -> Any:
        """Import it."""
        self.loads += 1
        return self._load()


class Safe:
    """A resolver with options."""

    def __init__(self, *, prefix: str = "plain", **more: Any) -> None:
        if more:
            raise InvalidConfigurationError(f"no such option: {', '.join(more)}")
        self._prefix = prefix

    async def before(self, question: HookCall) -> object:
        """Answer with a key that says what was configured."""
        return Answer(f"{self._prefix}-{question.provider_id}")


def key(provider_id: str = "openai") -> str | None:
    """Ask for a key."""
    found = get_api_key(provider_id)
    return found.get_secret_value() if found else None


def read(*resolvers: dict[str, Any], **environ: str) -> Configuration:
    """Read a configuration with these resolvers."""
    return configuration_from_mapping({"credential_resolvers": list(resolvers)}, environ=environ)


async def test_an_installed_resolver_is_asked() -> None:
    """It is imported when the first key is asked for, once, and off the event loop."""
    plug_in = PlugIn("safe", lambda: Safe)
    with registry_replaced(Hook(plug_in).registry):
        assert plug_in.loads == 0
        found = await aget_api_key("openai")
        assert found is not None
        assert [found.get_secret_value(), key("other")] == ["plain-openai", "plain-other"]
    assert plug_in.loads == 1


@pytest.mark.parametrize("thing", [Safe(prefix="made"), lambda _: Answer("made-openai")])
def test_an_entry_point_may_name_a_resolver_that_is_made_already(thing: object) -> None:
    """An object, or a function of a question."""
    with registry_replaced(Hook(PlugIn("safe", lambda: thing)).registry):
        assert key() == "made-openai"


@pytest.mark.parametrize("error", [ImportError("no module"), SystemExit(1), ZeroDivisionError()])
def test_a_plug_in_that_cannot_be_imported_breaks_nothing(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is passed by, and the status says why."""

    def load() -> Any:
        raise error

    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    hook = Hook(PlugIn("broken", load), PlugIn("also", object))
    with registry_replaced(hook.registry):
        assert key() == "of-the-environment"
        assert {each.last_error for each in hook.registry.status()} == {"unloadable"}


def test_the_group_of_this_environment_can_be_read() -> None:
    """Nothing that is installed here registers a resolver."""
    assert list(installed()) == []


def test_a_block_configures_a_plug_in() -> None:
    """Options go to its class; order and limits are the block's; the bare plug-in is replaced."""
    hook = Hook(PlugIn("safe", lambda: Safe))
    block = {"name": "safe", "order": 3, "ttl": 5, "options": {"prefix": "${env.PREFIX}"}}
    loaded = read(block, PREFIX="ours")
    with registry_replaced(hook.registry), configured(loaded.credential_resolvers):
        assert key() == "ours-openai"
        (status,) = hook.registry.status()
        assert (status.source, status.order, status.kept) == ("configuration", 3, 1)
    with registry_replaced(hook.registry):
        assert key() == "plain-openai"


def test_a_block_takes_the_place_of_the_plug_in_of_its_name() -> None:
    """Whoever asks for `safe` gets what the operator calls so, and nobody else is asked."""
    plug_in, other = PlugIn("safe", lambda: Safe), PlugIn("other", lambda: Safe)
    hook = Hook(plug_in, other)
    loaded = read({"name": "safe", "use": "other", "options": {"prefix": "configured"}})
    with registry_replaced(hook.registry), configured(loaded.credential_resolvers):
        assert key() == "configured-openai"
        assert [each.name for each in hook.registry.status()] == ["safe"]
    assert plug_in.loads == 0


def test_plug_ins_that_cannot_be_listed_break_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A package whose metadata is broken costs one warning."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")

    def broken() -> Any:
        raise ValueError("no metadata")

    with registry_replaced(ResolverRegistry(entry_points=broken)):
        assert [key(), key()] == ["of-the-environment"] * 2
    assert caplog.text.count("cannot be listed: ValueError") == 1


def test_a_plug_in_whose_import_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up in time, and what is configured can still be changed."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    entered, let_go = threading.Event(), threading.Event()

    def load() -> Any:
        entered.set()
        let_go.wait(20)
        return Safe

    hook = Hook(PlugIn("slow", load))
    ended = threading.Event()

    def end() -> None:
        with hook.registry.configured([]):
            pass
        with hook.registry.configured(
            read({"name": "slow", "enabled": False}).credential_resolvers
        ):
            ended.set()

    try:
        with registry_replaced(hook.registry):
            assert hook.at_the_deadline(key, entered) == "of-the-environment"
            threading.Thread(target=end, daemon=True).start()
            assert ended.wait(5)
    finally:
        let_go.set()


def test_what_is_no_longer_configured_leaves_no_thread() -> None:
    """The event loop of a resolver ends with its configuration."""
    hook = Hook(PlugIn("safe", lambda: Safe))
    loaded = read({"name": "a-loop-that-ends", "use": "safe"})
    with registry_replaced(hook.registry), configured(loaded.credential_resolvers):
        assert key() == "plain-openai"
        # The loop's, and for a moment that which has loaded the resolver.
        threads = [each for each in threading.enumerate() if "a-loop-that-ends" in each.name]
        assert threads
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def test_one_plug_in_may_be_configured_twice() -> None:
    """`use` says which, `name` what to call it."""
    hook = Hook(PlugIn("safe", lambda: Safe))
    loaded = read(
        {"name": "second", "use": "safe", "order": 2, "options": {"prefix": "second"}},
        {"name": "first", "use": "safe", "order": 1, "options": {"prefix": "first"}},
    )
    with registry_replaced(hook.registry), configured(loaded.credential_resolvers):
        assert key() == "first-openai"
        assert [each.name for each in hook.registry.status()] == ["first", "second"]


def test_a_block_can_switch_a_plug_in_off() -> None:
    """`enabled: false` means that it is not asked, though it is installed."""
    hook = Hook(PlugIn("safe", lambda: Safe))
    loaded = read({"name": "safe", "enabled": False})
    with registry_replaced(hook.registry), configured(loaded.credential_resolvers):
        assert key() is None


def test_a_block_may_name_any_class(hook: Hook, tmp_path: Path, monkeypatch: Any) -> None:
    """`use: package.module:Class`, without an entry point."""
    (tmp_path / "a_companys_safe.py").write_text(
        "from lightspeed_azure.keys import Answer\n"
        "class Safe:\n"
        "    def __init__(self, colour): self.colour = colour\n"
        "    def before(self, question): return Answer(self.colour)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = read({"name": "s", "use": "a_companys_safe:Safe", "options": {"colour": "red"}})
    with configured(loaded.credential_resolvers):
        assert key() == "red"
    sys.modules.pop("a_companys_safe")


def test_wrong_options_of_a_foreign_class_are_a_fault(hook: Hook) -> None:
    """They are known only when it is made; with `fail` the error says what it says."""
    hook = Hook(PlugIn("safe", lambda: Safe))
    loaded = read({"name": "safe", "on_error": "fail", "options": {"color": "red"}})
    with (
        registry_replaced(hook.registry),
        configured(loaded.credential_resolvers),
        pytest.raises(CredentialResolutionError, match="no such option: color"),
    ):
        key()


def test_configurations_may_overlap(hook: Hook) -> None:
    """Each ends with its block, whatever the order; the last one counts."""
    blocks = [
        read({"name": name, "use": "safe", "options": {"prefix": name}}).credential_resolvers
        for name in ("one", "two")
    ]
    with registry_replaced(Hook(PlugIn("safe", lambda: Safe)).registry):
        one, two = (configured(each) for each in blocks)
        one.__enter__()
        two.__enter__()
        assert key() == "two-openai"
        one.__exit__(None, None, None)
        assert key() == "two-openai"
        two.__exit__(None, None, None)
        assert key() == "plain-openai"


def test_an_unknown_resolver_is_an_error_that_names_those_there_are(hook: Hook) -> None:
    """And what was configured before stays."""
    with (
        hook.registered(lambda _: PASS),
        pytest.raises(InvalidConfigurationError) as caught,
        hook.registry.configured(read({"name": "valt"}).credential_resolvers),
    ):
        pass
    assert "there is no such resolver; the resolvers are keyvault, vault" in str(caught.value)


GOOD = {"url": "https://vault.example:8200", "token": "${env.VAULT_TOKEN:=hvs.x}"}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({}, "name: is missing"),
        ({"name": "a b"}, "name: must be a name of letters"),
        ({"name": "x", "timeout": 0}, "timeout: must be more than 0 seconds"),
        ({"name": "x", "timeout": "5"}, "timeout: must be a number of seconds"),
        ({"name": "x", "ttl": -1}, "ttl: must be at least 0 seconds"),
        ({"name": "x", "on_error": "ignore"}, "on_error: must be one of fallback, fail"),
        ({"name": "x", "failures": 1.5}, "failures: must be a whole number"),
        ({"name": "x", "failures": 0}, "failures: must be at least 1"),
        ({"name": "x", "oder": 1}, "oder: there is no such key; did you mean order?"),
        ({"name": "x", "use": "a b:c"}, 'use: must name a class; write it as "package.module'),
        ({"name": "x", "options": [1]}, "options: must be a map"),
        ({"name": "vault"}, "options.url: is missing"),
        ({"name": "vault", "options": {**GOOD, "url": "http://vault.example"}}, "plain HTTP"),
        ({"name": "vault", "options": {**GOOD, "token_path": "/x"}}, "exclude each other"),
        ({"name": "vault", "options": {"url": GOOD["url"]}}, "says no way to sign in"),
        ({"name": "vault", "options": {**GOOD, "path": "all"}}, "must hold {provider_id}"),
        (
            {"name": "vault", "options": {**GOOD, "path": "{provider_id}/{x}"}},
            "no other placeholder",
        ),
        ({"name": "vault", "options": {**GOOD, "key": "{field"}}, "a brace too many"),
        ({"name": "vault", "options": {**GOOD, "versions": {"a": "x"}}}, "version number"),
        ({"name": "vault", "options": {**GOOD, "tokn": "x"}}, "did you mean token?"),
        ({"name": "vault", "options": {"url": GOOD["url"], "kubernetes": {}}}, "role: is missing"),
        ({"name": "v", "use": "vault", "options": {}}, "options.url: is missing"),
        ({"name": "keyvault", "options": {"url": "http://x"}}, "must be an https URL"),
        (
            {"name": "keyvault", "options": {"url": "https://x", "secret_name": "a_{provider_id}"}},
            "hyphens",
        ),
        (
            {"name": "keyvault", "options": {"url": "https://x", "secret_name": "all"}},
            "must hold {provider_id}",
        ),
        (
            {"name": "keyvault", "options": {"url": "https://x", "versions": {"a": "1"}}},
            "32 hex digits",
        ),
    ],
)
def test_what_cannot_work_is_said(item: dict[str, Any], problem: str) -> None:
    """Each problem names its key and the cure."""
    with pytest.raises(InvalidConfigurationError) as caught:
        read(item)
    assert f"credential_resolvers[0]{'.' if problem[0].islower() else ''}" in str(caught.value)
    assert problem in str(caught.value)


def test_two_resolvers_of_one_name_are_refused() -> None:
    """Messages and `resolver=` could not tell them apart."""
    with pytest.raises(InvalidConfigurationError, match=r"\[1\].name: is that of another"):
        read({"name": "safe"}, {"name": "safe"})
    with pytest.raises(InvalidConfigurationError, match="must be a list"):
        configuration_from_mapping({"credential_resolvers": {"name": "vault"}}, environ={})


def test_the_operators_file_is_read_with_its_lines(tmp_path: Path) -> None:
    """Files that it names are looked at, and every problem has its line."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(
        "credential_resolvers:\n"
        "  - name: vault\n"
        "    order: ${env.ORDER:=2}\n"
        "    ttl: ${env.TTL:=2.5}\n"
        "    options:\n"
        "      url: https://vault.example:8200\n"
        f"      ca_bundle: {tmp_path}/ca.pem\n"
        f"      kubernetes: {{role: lightspeed}}\n"
    )
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert f"{file}:7: credential_resolvers[0].options.ca_bundle: there is no such file" in str(
        caught.value
    )
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    (block,) = load_configuration(file, environ={}).credential_resolvers
    assert (block.order, block.ttl, block.seconds_to_keep) == (2, 2.5, 2.5)


def test_no_secret_of_a_block_is_shown() -> None:
    """Neither its repr nor a dump of it holds a token."""
    secret = "hvs.an-invented-token"
    blocks = read(
        {"name": "vault", "options": {**GOOD, "token": secret}},
        {"name": "other", "options": {"password": secret}},
    ).credential_resolvers
    for block in blocks:
        assert secret not in f"{block!r} {block} {block.model_dump()} {block.model_dump_json()}"
        assert secret not in repr(block.options)


def test_an_application_brings_its_resolvers(tmp_path: Path, monkeypatch: Any) -> None:
    """They are configured while its lifespan runs, whether the stack is there or not."""
    (tmp_path / "an_apps_safe.py").write_text(
        "from lightspeed_azure.keys import Answer\n"
        "def safe(question): return Answer('of-the-app')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "llama_stack": {"url": "http://127.0.0.1:9"},
        "azure_entra_id": {"managed_identity": "system"},
        "credential_resolvers": [{"name": "safe", "use": "an_apps_safe:safe"}],
    }
    with registry_replaced(Hook().registry):
        with TestClient(FastAPI(lifespan=lifespan(config))):
            assert key() == "of-the-app"
        assert key("nobody-else") is None
    sys.modules.pop("an_apps_safe")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_resolver_anew() -> None:
    """The connections of the parent's would mix the answers of both."""
    plug_in = PlugIn("safe", lambda: Safe)
    with registry_replaced(Hook(plug_in).registry):
        assert key() == "plain-openai"
        child = os.fork()
        if child == 0:
            os._exit(0 if (key("other"), plug_in.loads) == ("plain-other", 2) else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert plug_in.loads == 1
