"""Keys of six providers, rotated in their files while a real stack asks the providers with them."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from canary import watching
from check_support import check, states
from families import FAMILY, OGX
from fastapi import FastAPI
from fastapi.testclient import TestClient
from integration_support import ask, ask_streaming
from kubernetes_volume import KubernetesVolume
from provider_emulators import ProviderEmulators
from provider_stack import CLAUDE, KINDS, Kind, run_config, service_account
from proxying import caller, eventually, proxying
from tunnel import Tunnels, tunnels

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    InvalidConfigurationError,
    KeyUnavailableError,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
)
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.fastapi import ClientDep, lifespan
from lightspeed_azure.keys import Answer, HookCall, registered
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.transports import http_client

pytestmark = pytest.mark.integration

CROWD = 200
CROWDED = KINDS[3:4] if FAMILY is OGX else KINDS
"""The families differ only in the OpenAI client inside them, which one provider shows."""


@pytest.fixture(scope="module")
def provider_servers() -> Iterator[ProviderEmulators]:
    """The providers that the stack knows; their ports stay the same."""
    with ProviderEmulators() as emulators:
        yield emulators


@pytest.fixture(scope="module")
def iam_tunnel(provider_servers: ProviderEmulators) -> Iterator[Tunnels]:
    """The way to IBM's IAM, whose name the stacks have built in."""
    with tunnels(int(provider_servers.iam.endpoint.rpartition(":")[2])) as server:
        yield server


@pytest.fixture(scope="module")
def provider_environment(
    provider_servers: ProviderEmulators,
    iam_tunnel: Tunnels,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What the stack is given: ways to the emulators, and no key."""
    return {
        "SQLITE_STORE_DIR": str(tmp_path_factory.mktemp("providers")),
        FAMILY.log_format: "json",
        "HTTPS_PROXY": iam_tunnel.url,
        "NO_PROXY": "127.0.0.1,localhost",
        "SSL_CERT_FILE": str(provider_servers.ca_bundle),
        "GOOGLE_VERTEX_BASE_URL": provider_servers.vertex.endpoint,
        "NO_GCE_CHECK": "true",
    }


@pytest.fixture(scope="module")
def provider_config(
    provider_servers: ProviderEmulators, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The stack's configuration."""
    return run_config(tmp_path_factory.mktemp("config"), provider_servers)


@pytest.fixture(scope="module")
def provider_stack_url(
    provider_config: Path,
    provider_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A real stack in a process of its own, with all providers."""
    url = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("server")
    keyless = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    with asyncio.Runner() as runner:
        running = server(
            FAMILY.command(str(provider_config), url),
            health=f"{url}/v1/health",
            folder=folder,
            environment=keyless | provider_environment,
            log=folder / "stack.log",
        )
        runner.run(running.__aenter__())
        yield url
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def providers(provider_servers: ProviderEmulators) -> Iterator[ProviderEmulators]:
    """The providers as new: they know no key."""
    provider_servers.reset()
    yield provider_servers
    provider_servers.reset()


@pytest.fixture
async def keyed(
    provider_stack_url: str, providers: ProviderEmulators
) -> AsyncIterator[AsyncLlamaStackClientHolder]:
    """A holder without an identity and, as yet, without keys."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=AzureEntraIDManager.isolated())
    await holder.load({"url": provider_stack_url})
    yield holder
    await holder.close()


def entry(kind: Kind, path: Path) -> dict[str, object]:
    """Return the documented entry for a provider whose key is in a file."""
    return {"provider_id": kind.name, "field": kind.field, "source": {kind.source: str(path)}}


def first(kind: Kind) -> str:
    """Return the key that a provider has at first."""
    return f"first-key-of-{kind.name}"


def second(kind: Kind) -> str:
    """Return the key that it is rotated to."""
    return f"second-key-of-{kind.name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_rotated_key_is_the_next_requests(
    kind: Kind, keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The kubelet swaps the volume; the next request, plain or streaming, carries the new key."""
    volume = KubernetesVolume(tmp_path / "secret", apitoken=f" {first(kind)}\n")
    keyed.set_provider_credentials([entry(kind, volume.path)])
    kind.allow(providers, first(kind))
    assert "hello" in await ask(keyed.get_client(), "hello", kind.model)
    kind.allow(providers, second(kind))
    volume.swap(apitoken=second(kind))
    assert "again" in await ask_streaming(keyed.get_client(), "again", kind.model)
    assert "twice" in await ask(keyed.get_client(), "twice", kind.model)
    assert kind.seen(providers, first(kind)) == 1
    assert kind.seen(providers, second(kind)) == 2
    assert kind.service(providers).rejected == 0


@pytest.mark.parametrize("built_on", ["httpx", "synchronous"])
async def test_a_rotated_key_below_other_clients(
    built_on: str, provider_stack_url: str, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """A client on httpx and the stack's synchronous client read the file at each request, too."""
    kind = KINDS[0]
    volume = KubernetesVolume(tmp_path / "secret", apitoken=first(kind))
    options: dict[str, Any] = {
        "manager": AzureEntraIDManager.isolated(),
        "provider_credentials": [entry(kind, volume.path)],
    }
    body: dict[str, Any] = {"model": kind.model, "messages": [{"role": "user", "content": "hello"}]}

    def on_httpx() -> str:
        with http_client(provider_stack_url, **options) as client:
            for rotated in (first(kind), second(kind)):
                kind.allow(providers, rotated)
                volume.swap(apitoken=rotated)
                answer = client.post("/v1/chat/completions", json=body)
        return answer.text

    def synchronous() -> str:
        with LlamaStackClientHolder.isolated(**options) as holder:
            holder.load({"url": provider_stack_url})
            for rotated in (first(kind), second(kind)):
                kind.allow(providers, rotated)
                volume.swap(apitoken=rotated)
                answer = holder.get_client().chat.completions.create(**body)
        return str(answer)

    asked = on_httpx if built_on == "httpx" else synchronous
    assert "hello" in await asyncio.to_thread(asked)
    assert [kind.seen(providers, key) for key in (first(kind), second(kind))] == [1, 1]


async def test_a_rotated_key_through_the_proxy(
    provider_stack_url: str, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The proxy reads the file for each request, is ready by it, and shows how it is."""
    kind = KINDS[0]
    volume = KubernetesVolume(tmp_path / "secret", apitoken=first(kind))
    manager = AzureEntraIDManager.isolated()
    keys = ProviderCredentials([entry(kind, volume.path)], manager=lambda: manager)
    body = {"model": kind.model, "messages": [{"role": "user", "content": "hello"}]}
    async with (
        proxying(provider_stack_url, manager, keys) as proxy,
        caller(proxy) as http,
        httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False) as admin,
    ):
        assert (await eventually(lambda: admin.get("/readyz"), 200)).json()["status"] == "ok"
        for rotated in (first(kind), second(kind)):
            kind.allow(providers, rotated)
            volume.swap(apitoken=rotated)
            assert "hello" in (await http.post("/v1/chat/completions", json=body)).text
        volume.swap(apitoken="")
        assert "hello" in (await http.post("/v1/chat/completions", json=body)).text
        assert (await admin.get("/readyz")).json() == {"status": "degraded", "failing": ["openai"]}
        metrics = (await admin.get("/metrics")).text
        status = (await admin.get("/status")).json()
    assert [kind.seen(providers, key) for key in (first(kind), second(kind))] == [1, 2]
    (told,) = status["credentials"]
    assert told["usable"]
    assert "empty" in told["fault"]
    reloads = [line for line in metrics.splitlines() if "credential_reloads_total{" in line]
    assert [(line.count('"success"'), line.rpartition(" ")[2]) for line in sorted(reloads)] == [
        (0, "1.0"),
        (1, "2.0"),
    ]
    assert second(kind) not in metrics + str(status)


@pytest.mark.parametrize("kind", CROWDED, ids=lambda kind: kind.name)
async def test_a_rotation_amid_a_crowd_fails_nobody(
    kind: Kind, keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The key is replaced, and the old one revoked, while 200 requests are under way at once."""
    volume = KubernetesVolume(tmp_path / "secret", apitoken=first(kind))
    keyed.set_provider_credentials([entry(kind, volume.path)])
    kind.allow(providers, first(kind))
    client = keyed.get_client()

    async def rotate() -> None:
        while kind.seen(providers, first(kind)) < CROWD // 8:  # noqa: ASYNC110 - a counter of another thread
            await asyncio.sleep(0.001)
        kind.allow(providers, second(kind))
        volume.swap(apitoken=second(kind))

    questions = [f"question-{number}" for number in range(CROWD)]
    _, *answers = await asyncio.gather(
        rotate(), *(ask(client, question, kind.model) for question in questions)
    )
    for question, answer in zip(questions, answers, strict=True):
        assert f"{question} " in str(answer)
    old, new = (kind.seen(providers, key) for key in (first(kind), second(kind)))
    assert old + new == CROWD
    assert new > 0


async def test_two_providers_of_one_type_keep_their_keys_apart(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """VLLM on OpenShift AI and on RHEL AI share a field; the model's provider decides the key."""
    rhoai, rhelai = KINDS[3], KINDS[4]
    for kind in (rhoai, rhelai):
        (tmp_path / kind.name).write_text(first(kind))
        kind.allow(providers, first(kind))
    keyed.set_provider_credentials([entry(kind, tmp_path / kind.name) for kind in (rhoai, rhelai)])
    await asyncio.gather(
        *(ask(keyed.get_client(), "x", kind.model) for kind in (rhoai, rhelai) * 20)
    )
    for kind in (rhoai, rhelai):
        assert kind.service(providers).accepted == dict.fromkeys(
            kind.service(providers).accepted, 20
        )
        assert kind.seen(providers, first(kind)) == 20
        assert kind.service(providers).rejected == 0


async def test_claude_of_vertex_through_a_gateway(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """A service account gives access tokens; a replaced one gives the next request its own."""
    file = tmp_path / "service-account.json"
    file.write_text(service_account("kid-1", providers.google.endpoint))
    keyed.set_provider_credentials([{"provider_id": CLAUDE.name, "source": {"google": str(file)}}])
    providers.google.keys = ("kid-1",)
    await asyncio.gather(*(ask(keyed.get_client(), "hi", CLAUDE.model) for _ in range(10)))
    assert len(providers.google.issued) == 1
    providers.google.keys = ("kid-2",)
    providers.claude.keys = ()
    file.write_text(service_account("kid-2", providers.google.endpoint))
    await ask(keyed.get_client(), "hi", CLAUDE.model)
    assert providers.claude.accepted_with(providers.google.issued[1]) == 1
    assert providers.claude.rejected == 0


async def test_a_google_token_that_is_refused_is_replaced(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """A provider that refuses the access token gets a new one, once; the caller notices nothing."""
    file = tmp_path / "service-account.json"
    file.write_text(service_account("kid-1", providers.google.endpoint))
    keyed.set_provider_credentials([{"provider_id": CLAUDE.name, "source": {"google": str(file)}}])
    providers.google.keys = ("kid-1",)
    await ask(keyed.get_client(), "hi", CLAUDE.model)
    providers.claude.keys = ()
    await ask(keyed.get_client(), "hi", CLAUDE.model)
    assert len(providers.google.issued) == 2
    assert providers.claude.rejected == 1


async def test_a_wrong_key_is_the_providers_refusal(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The same key is not sent twice: the caller gets the stack's error at once."""
    kind = KINDS[0]
    (tmp_path / "key").write_text(first(kind))
    keyed.set_provider_credentials([entry(kind, tmp_path / "key")])
    with pytest.raises(Exception, match="401"):
        await ask(keyed.get_client(), "hi", kind.model)
    assert providers.openai.rejected == 1


async def test_what_the_caller_sends_wins(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The caller's own key for the provider goes out, the file is not even read."""
    kind = KINDS[3]
    keyed.set_provider_credentials([entry(kind, tmp_path / "not-there")])
    providers.rhoai.keys = ("the-callers-own",)
    client = keyed.get_client()
    header = {FAMILY.header: '{"vllm_api_token": "the-callers-own"}'}
    answer = await client.chat.completions.create(
        model=kind.model,
        messages=[{"role": "user", "content": "hi"}],
        **{FAMILY.headers: header},
    )
    assert answer.choices
    if FAMILY is OGX:
        header = {FAMILY.header: '{"RHOAI_api_key": "the-callers-own"}'}
        await client.chat.completions.create(
            model=kind.model, messages=[{"role": "user", "content": "hi"}], _headers=header
        )
    assert keyed.provider_credentials.status()[0].failures == 0


async def test_without_any_value_nothing_is_sent(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """A file that never was good is a typed error; one that is optional leaves the field out."""
    kind = KINDS[3]
    keyed.set_provider_credentials([entry(kind, tmp_path / "not-there")])
    with pytest.raises(KeyUnavailableError, match=r"not-there.*there is no such file"):
        await ask(keyed.get_client(), "hi", kind.model)
    assert providers.rhoai.rejected == 0
    keyed.set_provider_credentials([entry(kind, tmp_path / "not-there") | {"optional": True}])
    providers.rhoai.keys = ("NO KEY REQUIRED",)  # which the stack sends in the key's place
    assert await ask(keyed.get_client(), "hi", kind.model)


async def test_a_field_of_another_provider_is_never_sent(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """What the stack says of the provider counts: a wrong field is an error that names the right one."""
    (tmp_path / "key").write_text("openai-key-for-vllm")
    wrong = {"provider_id": "rhoai", "field": "openai_api_key"}
    keyed.set_provider_credentials([wrong | {"source": {"file": str(tmp_path / "key")}}])
    with pytest.raises(InvalidConfigurationError, match="its fields are vllm_api_token"):
        await ask(keyed.get_client(), "hi", KINDS[3].model)
    assert providers.rhoai.rejected == 0


async def test_only_requests_of_the_provider_carry_its_key(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """Another provider's model, and what is no inference, go out without the key."""
    (tmp_path / "key").write_text("key-of-rhoai-alone")
    keyed.set_provider_credentials([entry(KINDS[3], tmp_path / "key")])
    client = keyed.get_client()
    await FAMILY.raw(client, "GET", "/v1/models", None)
    providers.rhelai.keys = ("NO KEY REQUIRED",)
    await ask(client, "hi", KINDS[4].model)
    assert providers.rhelai.accepted_with("NO KEY REQUIRED") == 1
    assert keyed.provider_credentials.status()[0].age is None


async def test_a_response_carries_the_key(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """`/v1/responses` asks the provider with the key, streaming too; a rotated one is its next."""
    kind = KINDS[3]
    (tmp_path / "key").write_text(first(kind))
    keyed.set_provider_credentials([entry(kind, tmp_path / "key")])
    kind.allow(providers, first(kind))
    client = keyed.get_client()
    answer = await client.responses.create(model=kind.model, input="hello")
    assert answer.status == "completed"
    (tmp_path / "key").write_text(second(kind))
    kind.allow(providers, second(kind))
    stream = await client.responses.create(model=kind.model, input="hello", stream=True)
    events = [event async for event in stream]
    assert len(events) > 3
    assert kind.seen(providers, second(kind)) == 1
    assert kind.service(providers).rejected == 0


class Rotating:
    """A resolver of keys that are rotated together with the provider; it counts its questions."""

    def __init__(self, providers: ProviderEmulators) -> None:
        self.providers = providers
        self.keys: dict[str, str] = {}
        self.asked = 0

    def rotate(self, kind: Kind, key: str) -> None:
        """Let this be the key from now on, here and at the provider."""
        self.keys[kind.name] = key
        kind.allow(self.providers, key)

    def before(self, question: HookCall) -> Answer:
        """Answer."""
        self.asked += 1
        return Answer(self.keys[question.provider_id])


async def rotated(client: Any, vault: Rotating) -> None:
    """Rotate the keys of OpenAI and vLLM behind an answer that stays fresh for 30 s."""
    for kind in (KINDS[0], KINDS[3]):
        asked = vault.asked
        vault.rotate(kind, first(kind))
        assert "hello" in await ask(client, "hello", kind.model)
        vault.rotate(kind, second(kind))
        assert "again" in await ask(client, "again", kind.model)
        assert "twice" in await ask_streaming(client, "twice", kind.model)
        vault.rotate(kind, first(kind))
        assert "thrice" in await ask_streaming(client, "thrice", kind.model)
        assert vault.asked == asked + 3
        vault.keys[kind.name] = second(kind)  # here alone: no other key is to be had
        kind.allow(vault.providers, "a third one")
        for _ in range(3):
            with pytest.raises(Exception, match="401"):
                await ask(client, "x", kind.model)
        assert vault.asked == asked + 5, "a refused answer that is given again counts for a while"


def of_vault() -> list[dict[str, object]]:
    """Return the entries for keys that a resolver has."""
    kinds = (KINDS[0], KINDS[3])
    return [
        {"provider_id": kind.name, "field": kind.field, "source": {"plugin": "vault"}}
        for kind in kinds
    ]


async def test_a_refused_key_is_asked_for_again_at_once(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators
) -> None:
    """Vault and provider rotate together: the request is repeated with the new key."""
    vault = Rotating(providers)
    keyed.set_provider_credentials(of_vault())
    with registered(vault, name="vault", ttl=30):
        await rotated(keyed.get_client(), vault)


def test_a_service_from_its_configuration(
    provider_stack_url: str, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """The block of lightspeed-stack.yaml is all that a FastAPI service needs, without Entra ID."""
    kind = KINDS[3]
    (tmp_path / "apitoken").write_text(first(kind))
    kind.allow(providers, first(kind))
    block = {"name": "rhoai", "type": "rhoai_vllm", "credentials_path": str(tmp_path)}
    config = {"llama_stack": {"url": provider_stack_url}, "provider_credentials": [block]}
    app = FastAPI(lifespan=lifespan(config))

    @app.post("/query")
    async def query(client: ClientDep) -> str:
        return await ask(client, "hello", kind.model)

    with TestClient(app) as http:
        assert "hello" in http.post("/query").text
        (tmp_path / "apitoken").write_text(second(kind))
        kind.allow(providers, second(kind))
        assert "hello" in http.post("/query").text


def test_what_check_says(
    provider_stack_url: str, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """Each key has its line; a provider that is not there is ill; a question carries the key."""
    kind = KINDS[3]
    (tmp_path / "key").write_text(first(kind))
    kind.allow(providers, first(kind))
    file = tmp_path / "lightspeed-stack.yaml"
    text = f"""\
llama_stack: {{url: "{provider_stack_url}"}}
provider_credentials:
  - {{provider_id: rhoai, source: {{file: {tmp_path}/key}}}}
"""
    file.write_text(text)
    code, found = check(file, "--inference", kind.model)
    assert code == 0, found
    assert "read again for each request" in found["key (rhoai.key)"][0]["found"]
    assert "answered" in found["inference"][0]["found"]
    kind.allow(providers, "another")
    code, found = check(file, "--inference", kind.model)
    assert code == 1
    assert "rhoai (401): it refuses the key" in found["inference"][0]["found"]
    file.write_text(text + "  - {provider_id: rhaoi, source: {env: NOT_SET}, optional: true}\n")
    code, found = check(file)
    assert code == 1
    assert states(found)["key (rhaoi.key)"] == "warning"
    assert "the stack has no provider rhaoi" in found["key"][0]["found"]


async def test_inside_the_process(
    provider_config: Path,
    provider_environment: dict[str, str],
    providers: ProviderEmulators,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In library mode, too, a rotated key is the next request's, from a file and from a resolver."""
    for name, value in provider_environment.items():
        monkeypatch.setenv(name, value)
    for kind in KINDS:
        (tmp_path / kind.name).write_text(first(kind))
        kind.allow(providers, first(kind))
    holder = AsyncLlamaStackClientHolder.isolated(
        manager=AzureEntraIDManager.isolated(),
        provider_credentials=[entry(kind, tmp_path / kind.name) for kind in KINDS],
    )
    await holder.load(
        LlamaStackConfiguration(
            use_as_library_client=True, library_client_config_path=provider_config
        )
    )
    try:
        for kind in KINDS:
            await ask(holder.get_client(), "hi", kind.model)
            (tmp_path / kind.name).write_text(second(kind))
            kind.allow(providers, second(kind))
            await ask_streaming(holder.get_client(), "hi", kind.model)
            assert kind.seen(providers, first(kind)) == 1
            assert kind.seen(providers, second(kind)) == 1
        vault = Rotating(providers)
        holder.set_provider_credentials(of_vault())
        with registered(vault, name="vault", ttl=30):
            await rotated(holder.get_client(), vault)
    finally:
        await holder.close()


async def test_no_key_is_seen(
    keyed: AsyncLlamaStackClientHolder, providers: ProviderEmulators, tmp_path: Path
) -> None:
    """Neither logs at debug level, nor errors with our locals, nor any repr holds a key."""
    with watching() as canary:
        account = service_account("kid-1", providers.google.endpoint)
        files = {"openai": "canary-key-of-openai", "claude": account, "vertex": "{" + "canary-json"}
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        value = "canary-value-in-the-configuration"
        config = [
            entry(KINDS[0], tmp_path / "openai"),
            {"provider_id": "claude", "source": {"google": str(tmp_path / "claude")}},
            {"provider_id": "vertex", "source": {"google": str(tmp_path / "vertex")}},
            {"provider_id": "rhoai", "source": {"value": value}},
        ]
        line = account.split("\\n")[3]
        canary.watch(file=files["openai"], account=line, broken="canary-json", value=value)
        keyed.set_provider_credentials(config)
        providers.openai.keys = (files["openai"],)
        providers.google.keys = ("kid-1",)
        client = keyed.get_client()
        await ask(client, "hi", "openai/model-of-openai")
        await ask(client, "hi", "claude/model-of-claude")
        canary.watch(token=providers.google.issued[0])
        for model in ("vertex/model-of-vertex", "rhoai/model-of-rhoai"):
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await ask(client, "hi", model)
            canary.read_error(model, caught.value)
        providers.google.keys = ()
        providers.claude.keys = ()
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await ask(client, "hi", "claude/model-of-claude")
        canary.read_error("google refuses", caught.value)
        for broken in (
            [{"provider_id": "x", "field": "openai_api_keys", "source": {"value": value}}],
            [{"provider_id": "x", "fields": {"openai_api_keys": {"values": value}}}],
            [{"provider_id": "x", "fields": value}],
            [{"provider_id": "x", "source": value}],
        ):
            with pytest.raises(InvalidConfigurationError) as wrong:
                keyed.set_provider_credentials(broken)
            canary.read_error(f"configuration {broken[0].keys()}", wrong.value)
        canary.read(
            credentials=keyed.provider_credentials,
            fields=vars(keyed.provider_credentials),
            status=keyed.provider_credentials.status(),
            holder=vars(keyed),
            client=client,
        )
