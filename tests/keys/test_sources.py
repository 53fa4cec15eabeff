"""Where keys of other providers come from, and what happens when a source is not well."""

import asyncio
import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from integration_support import entra_block
from kubernetes_volume import KubernetesVolume
from provider_emulators import ProviderEmulators
from provider_stack import service_account
from pydantic import SecretStr

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    CredentialRejectedError,
    InvalidConfigurationError,
    KeyUnavailableError,
    TokenUnavailableError,
)
from lightspeed_azure.clients.inference_call import Calls
from lightspeed_azure.clients.stack_catalog import Listing, Provider, StackCatalog
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.fastapi import Runtime
from lightspeed_azure.keys import (
    Answer,
    HookCall,
    ResolverRegistry,
    registered,
    registry_replaced,
    token_key,
)
from lightspeed_azure.keys.google_token import GoogleTokenSource
from lightspeed_azure.keys.provider_credentials import ProviderCredentials

VLLM = Provider("mine", "remote::vllm", "http://127.0.0.1:1/v1")


class Steps:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


def credentials(source: dict[str, Any], **more: Any) -> ProviderCredentials:
    """Return what fills the key of the provider `mine`."""
    options = {name: more.pop(name) for name in ("manager", "monotonic") if name in more}
    return ProviderCredentials([{"provider_id": "mine", "source": source, **more}], **options)


async def sent(found: ProviderCredentials, provider: Provider = VLLM) -> dict[str, Any]:
    """Return what a request for the provider carries."""
    keys = found.keys(
        provider.provider_id, provider.provider_type, provider.base_url, "llama-stack"
    )
    assert keys is not None
    return await keys.data()


async def test_the_next_request_has_what_the_file_holds_then(tmp_path: Path) -> None:
    """The file is read for each request, through the kubelet's links; white space is trimmed."""
    volume = KubernetesVolume(tmp_path / "v", apitoken="  one\r\n")
    found = credentials({"file": str(volume.path)})
    assert await sent(found) == {"vllm_api_token": "one"}
    volume.swap(apitoken="two")
    assert await sent(found) == {"vllm_api_token": "two"}


async def test_a_request_opens_the_file_once(tmp_path: Path) -> None:
    """One open a key a request, and no other file."""
    (tmp_path / "key").write_text("one")
    found = credentials({"file": str(tmp_path / "key")})
    await sent(found)  # the first asks what is mounted, too
    opened: list[str] = []
    watching = True

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(str(details[0]))

    sys.addaudithook(hook)
    await sent(found)
    watching = False
    assert opened == [str(tmp_path / "key")]


def _missing(key: Path) -> None:
    key.unlink()


def _directory(key: Path) -> None:
    key.unlink()
    key.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda key: key.write_text(" \n"),
    "missing": _missing,
    "a directory without apitoken": _directory,
    "not text": lambda key: key.write_bytes(b"\xff\x00"),
    "too big": lambda key: key.write_text("x" * 20_000),
    "two lines": lambda key: key.write_text("three\nX-Injected: yes"),
    "not ASCII": lambda key: key.write_text("schlüssel"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_the_last_good_value_stays(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the one from start-up; one warning however often it is asked for; counted; it recovers."""
    key = tmp_path / "key"
    key.write_text("from-start-up")
    found = credentials({"file": str(key)})
    await sent(found)
    key.write_text("last-good")
    await sent(found)
    BROKEN[how](key)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            assert await sent(found) == {"vllm_api_token": "last-good"}
    (status,) = found.status()
    assert (status.has_value, status.failures, bool(status.fault)) == (True, 5, True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "last-good" not in caplog.text
    if key.is_dir():
        key.rmdir()
    key.write_text("four")
    assert await sent(found) == {"vllm_api_token": "four"}
    assert found.status()[0].fault == ""


async def test_a_fault_that_lasts_is_told_louder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning after five minutes, an error after an hour, and each hour from then on."""
    clock = Steps()
    (tmp_path / "key").write_text("one")
    found = credentials({"file": str(tmp_path / "key")}, monotonic=clock)
    await sent(found)
    (tmp_path / "key").write_text("")
    told = {}
    for minute in range(0, 190, 1):
        clock.now = minute * 60.0
        caplog.clear()
        await sent(found)
        if caplog.records:
            told[minute] = [record.levelname for record in caplog.records]
    assert told == {
        0: ["WARNING"],
        5: ["WARNING"],
        60: ["ERROR"],
        120: ["ERROR"],
        180: ["ERROR"],
    }
    assert found.status()[0].age == 189 * 60.0


async def test_without_any_value(tmp_path: Path) -> None:
    """Nothing ever good: a typed error without a value; with `optional` the field stays away."""
    source = {"file": str(tmp_path / "key")}
    with pytest.raises(KeyUnavailableError, match="there is no such file"):
        await sent(credentials(source))
    assert await sent(credentials(source, optional=True)) == {}


async def test_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable is looked up for each request; the last good value stays when it is gone."""
    monkeypatch.setenv("MY_KEY", " one ")
    found = credentials({"env": "MY_KEY"})
    assert await sent(found) == {"vllm_api_token": "one"}
    monkeypatch.setenv("MY_KEY", "two\nthree")
    for _ in range(3):
        assert await sent(found) == {"vllm_api_token": "one"}
    assert found.status()[0].failures == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "MY_KEY holds a line break" in caplog.text


async def test_a_static_key_for_azure_brings_the_endpoint() -> None:
    """The stack takes no key for Azure without `azure_api_base`; a provider without one is an error."""
    found = credentials({"value": "static"})
    azure = Provider("mine", "remote::azure", "https://example.openai.azure.com/openai/v1")
    assert await sent(found, azure) == {
        "azure_api_key": "static",
        "azure_api_base": azure.base_url,
    }
    with pytest.raises(InvalidConfigurationError, match="has no base_url"):
        await sent(found, Provider("mine", "remote::azure", None))


async def test_by_type_and_by_name() -> None:
    """An entry for a type serves all its providers; one for a name wins over it."""
    found = ProviderCredentials(
        [
            {"provider_id": "mine", "source": {"value": "own"}},
            {"provider_type": "vllm", "source": {"value": "all"}},
        ]
    )
    assert await sent(found) == {"vllm_api_token": "own"}
    assert await sent(found, Provider("other", "remote::vllm", None)) == {"vllm_api_token": "all"}
    assert found.keys("x", "remote::openai", None, "ogx") is None


def test_what_does_not_fit_the_stack() -> None:
    """A provider that the stack has not, and a field that it does not read, are named."""
    found = ProviderCredentials(
        [
            {"provider_id": "nobody", "source": {"value": "x"}},
            {"provider_id": "mine", "field": "openai_api_key", "source": {"value": "x"}},
            {"provider_id": "bed", "field": "aws_bedrock_bearer_token", "source": {"value": "x"}},
            {"provider_id": "local", "source": {"value": "x"}},
        ]
    )
    stack = {"mine": "remote::vllm", "bed": "remote::bedrock", "local": "remote::ollama"}
    problems = list(found.problems(stack, "llama-stack"))
    assert problems[0].endswith("the stack has no provider nobody; write one of bed, local, mine")
    assert "its fields are vllm_api_token" in problems[1]
    assert "its fields are aws_bearer_token_bedrock" in problems[2]
    assert problems[3] == (
        "provider_credentials: local: field is missing; name the field for the key of "
        "remote::ollama, or remove the entry if it takes no key"
    )
    assert not [line for line in found.problems(stack, "ogx") if "bedrock" in line]
    assert found.news(stack, "llama-stack") == problems
    assert found.news(stack, "llama-stack") == []


# -- Entra ID --------------------------------------------------------------------------------


async def test_an_entra_id_token_for_another_audience(azure_emulators: Emulators) -> None:
    """One identity gives tokens for several scopes; each is cached, and replaced when refused."""
    manager = AzureEntraIDManager.isolated(entra_block(azure_emulators))
    scope = "api://my-vllm/.default"
    found = credentials({"entra": {"scope": scope}}, manager=lambda: manager)
    one, two = await sent(found), await sent(found)
    assert one == two
    assert one["vllm_api_token"] != (await manager.aget_token()).get_secret_value()
    same = credentials({"entra": True}, manager=lambda: manager)
    assert (await sent(same))["vllm_api_token"] == manager.access_token.get_secret_value()
    keys = found.keys("mine", "remote::vllm", None, "llama-stack")
    assert keys is not None
    keys.refused(one)
    assert await sent(found) != one
    found.close()
    manager.close()


async def test_entra_id_without_an_identity() -> None:
    """A key that needs an identity says so where none is configured."""
    manager = AzureEntraIDManager.isolated()
    with pytest.raises(KeyUnavailableError, match="no azure_entra_id identity"):
        await sent(credentials({"entra": True}, manager=lambda: manager))


# -- Google ----------------------------------------------------------------------------------


@pytest.fixture
def google() -> Iterator[ProviderEmulators]:
    """Google's token endpoint, which knows one service account and one refresh token."""
    with ProviderEmulators() as emulators:
        emulators.google.keys = ("kid-1", "refresh-1")
        yield emulators


def authorized_user(emulators: ProviderEmulators) -> str:
    """Return the JSON of a user who has signed in."""
    info = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "refresh-1",
        "token_uri": f"{emulators.google.endpoint}/token",
    }
    return json.dumps(info)


async def test_google_credentials(google: ProviderEmulators, tmp_path: Path) -> None:
    """A service account, a user, or an access token by itself: each becomes a token, once."""
    file = tmp_path / "apitoken"
    found = credentials({"google": str(tmp_path)})
    contents = service_account("kid-1", google.google.endpoint), authorized_user(google)
    for number, content in enumerate(contents):
        file.write_text(content)
        tokens = await asyncio.gather(*(sent(found) for _ in range(20)))
        assert {each["vllm_api_token"] for each in tokens} == {google.google.issued[number]}
    assert len(google.google.issued) == 2
    file.write_text("ya29.brought-by-somebody\n")
    assert await sent(found) == {"vllm_api_token": "ya29.brought-by-somebody"}
    found.close()


async def test_a_new_credential_that_google_refuses(
    google: ProviderEmulators, tmp_path: Path
) -> None:
    """The token of the credential before serves on; without one the error is typed."""
    file = tmp_path / "key"
    file.write_text(service_account("kid-1", google.google.endpoint))
    found = credentials({"google": str(file)})
    before = await sent(found)
    file.write_text(service_account("kid-revoked", google.google.endpoint))
    assert await sent(found) == before
    assert "invalid_grant" in found.status()[0].fault
    with pytest.raises(CredentialRejectedError, match="invalid_grant"):
        await sent(credentials({"google": str(file)}))
    google.google.keys = ("kid-3",)
    file.write_text(service_account("kid-3", google.google.endpoint))
    assert await sent(found) != before
    assert found.status()[0].fault == ""
    found.close()


async def test_no_frame_of_an_error_shows_a_google_credential(tmp_path: Path) -> None:
    """As error reporters send them: with the local variables."""
    file = tmp_path / "credential.json"
    file.write_text('{"type": "service_account", "private_key": "an-invented-secret"}')

    async def told() -> str:
        try:
            await sent(credentials({"google": str(file)}))
        except CredentialRejectedError as error:
            frames = traceback.TracebackException.from_exception(error, capture_locals=True)
            return "".join(frames.format())
        return "no error"

    shown = await told()
    assert "is not whole" in shown
    assert "an-invented-secret" not in shown


def test_threads_share_the_token_of_a_google_credential(
    google: ProviderEmulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential that several threads meet first is signed in with once."""
    file = tmp_path / "credential.json"
    file.write_text(service_account("kid-1", google.google.endpoint))
    found = credentials({"google": str(file)})
    made: list[object] = []
    both = threading.Event()

    class Slow(GoogleTokenSource):
        """Gives another thread time to make one as well."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)
            if len(made) > 1:
                both.set()
            both.wait(0.3)

    monkeypatch.setattr(token_key, "GoogleTokenSource", Slow)
    threads = [threading.Thread(target=lambda: asyncio.run(sent(found))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    found.close()


async def test_google_over_plain_http_elsewhere(tmp_path: Path) -> None:
    """An assertion goes over TLS, or stays on this machine."""
    file = tmp_path / "key"
    file.write_text(service_account("kid-1", "http://tokens.example.com"))
    with pytest.raises(CredentialRejectedError):
        await sent(credentials({"google": str(file)}))


async def test_google_redirects_are_not_followed(tmp_path: Path) -> None:
    """An assertion goes nowhere but to the credential's own token_uri."""
    visited: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            visited.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        file = tmp_path / "key"
        file.write_text(service_account("kid-1", f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises((TokenUnavailableError, CredentialRejectedError)):
            await sent(credentials({"google": str(file)}))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert set(visited) == {"/token"}


# -- plug-ins --------------------------------------------------------------------------------


@pytest.fixture
def resolver() -> Iterator[dict[str, Any]]:
    """Register a resolver `vault`; `answer` is what it returns, or raises."""
    said: dict[str, Any] = {}

    def before(call: HookCall) -> object:
        said["asked"] = (call.provider_id, call.field)
        if isinstance(said["answer"], Exception):
            raise said["answer"]
        return Answer(said["answer"])

    with registry_replaced(ResolverRegistry(entry_points=list)), registered(before, name="vault"):
        yield said


async def test_a_resolver_answers(resolver: dict[str, Any]) -> None:
    """It is asked for the provider's field, by its name."""
    resolver["answer"] = SecretStr("from-the-vault")
    assert await sent(credentials({"plugin": "vault"})) == {"vllm_api_token": "from-the-vault"}
    assert resolver["asked"] == ("mine", "vllm_api_token")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        RuntimeError("s3cret-in-its-text"),
        b"bytes",
        SecretStr("schlüssel"),
        SecretStr("two\nX-Injected: yes"),
        SecretStr("x" * 20_000),
        SecretStr(""),
    ],
    ids=["none", "raises", "bytes", "umlaut", "newline", "huge", "empty"],
)
async def test_a_resolver_that_answers_with_no_key(
    resolver: dict[str, Any], answer: object
) -> None:
    """Nothing is sent; the error names the resolver, and repeats nothing of it."""
    resolver["answer"] = answer
    with pytest.raises(KeyUnavailableError, match="resolver vault") as caught:
        await sent(credentials({"plugin": "vault"}))
    assert "s3cret" not in str(caught.value)
    assert "Injected" not in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "env", "plugin"])
async def test_every_source_has_one_limit_for_the_length_of_a_key(
    resolver: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A key of 16,000 characters is sent, one more character is an error."""
    source = {"file": str(tmp_path / "key"), "env": "LONG_KEY", "plugin": "vault"}[kind]

    def write(key: str) -> None:
        (tmp_path / "key").write_text(key)
        monkeypatch.setenv("LONG_KEY", key)
        resolver["answer"] = key

    write("x" * 16_000)
    assert await sent(credentials({kind: source})) == {"vllm_api_token": "x" * 16_000}
    write("x" * 16_001)
    with pytest.raises(KeyUnavailableError):
        await sent(credentials({kind: source}))


# -- around ----------------------------------------------------------------------------------


async def test_what_may_not_be_in_a_body(tmp_path: Path) -> None:
    """The keys at hand are looked for in bodies; what any text may hold by chance is not."""
    found = ProviderCredentials(
        [
            {"provider_id": "mine", "source": {"value": "a-long-key-of-a-provider"}},
            {"provider_id": "dummy", "source": {"value": "EMPTY"}},
            {
                "provider_id": "v",
                "fields": {"vertex_project": {"value": "a-project-with-a-long-name"}},
            },
        ]
    )
    for provider in (VLLM, Provider("dummy", "remote::vllm", None)):
        await sent(found, provider)
    await sent(found, Provider("v", "remote::vertexai", None))

    async def nobody() -> Listing:
        raise AssertionError("nobody asks")

    manager = AzureEntraIDManager.isolated()
    calls = Calls(lambda: manager, StackCatalog(nobody), provider_credentials=lambda: found)
    assert [str(token) for token in calls.tokens()] == ["a-long-key-of-a-provider"]


async def test_a_token_and_keys_side_by_side(azure_emulators: Emulators) -> None:
    """Each provider's requests carry its own alone; the caller's other data stays with both."""
    manager = AzureEntraIDManager.isolated(entra_block(azure_emulators))
    found = credentials({"value": "key-of-vllm"})
    azure = Provider("azure", "remote::azure", azure_emulators.azure.base_url)
    listing = Listing(
        models={"gpt": "azure", "granite": "mine", "other": "else"},
        providers={
            each.provider_id: each
            for each in (azure, VLLM, Provider("else", "remote::openai", None))
        },
    )

    async def asked() -> Listing:
        return listing

    calls = Calls(lambda: manager, StackCatalog(asked), provider_credentials=lambda: found)
    own = {"mcp_headers": {"x": "y"}}

    async def carried(path: str, model: str) -> dict[str, Any]:
        call = await calls.of(
            "POST", path, {"model": model}, default_data=own, call_data=[], stream=False
        )
        data: dict[str, Any] = json.loads(await call.header() or "{}")
        return data

    chat = "/v1/chat/completions"
    assert (await carried(chat, "gpt")).keys() == {"mcp_headers", "azure_api_key", "azure_api_base"}
    assert await carried(chat, "granite") == own | {"vllm_api_token": "key-of-vllm"}
    assert await carried(chat, "other") == own
    assert await carried("/v1/files", "granite") == own
    manager.close()


async def test_a_probe_tells_how_the_keys_are(tmp_path: Path) -> None:
    """Readiness holds the state of each source, and no secret; without any it is as before."""
    (tmp_path / "key").write_text("s3cret-key")
    manager = AzureEntraIDManager.isolated()
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    assert "keys" not in Runtime(manager, holder).readiness()
    holder.set_provider_credentials(
        [{"provider_id": "mine", "source": {"file": str(tmp_path / "key")}}]
    )
    await sent(holder.provider_credentials)
    (key,) = Runtime(manager, holder).readiness()["keys"]
    assert (key["provider_id"], key["source"], key["has_value"]) == ("mine", "file", True)
    assert "s3cret" not in json.dumps(key)


def test_keys_that_cannot_work_leave_those_before(tmp_path: Path) -> None:
    """A holder that is given a wrong configuration goes on with what it has."""
    holder = AsyncLlamaStackClientHolder.isolated(
        manager=AzureEntraIDManager.isolated(),
        provider_credentials=[{"provider_id": "mine", "source": {"value": "x"}}],
    )
    before = holder.provider_credentials
    with pytest.raises(InvalidConfigurationError, match=r"provider_credentials\[0\]"):
        holder.set_provider_credentials([{"source": {"value": "x"}}])
    assert holder.provider_credentials is before
