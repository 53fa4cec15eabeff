"""What the manifests start, started here: the same files, commands and variables, real programs."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from entra_material import Certificate
from families import FAMILY, OGX
from integration_support import ask, entra_block
from kustomize_program import container, environment, one, overlay, rendered

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
    load_configuration,
)
from lightspeed_azure.demo.processes import free_port, server
from lightspeed_azure.emulators import Emulators

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


TLS = "/var/run/secrets/llama-stack-tls"
CA = "/etc/llama-stack-ca"
KEYS = ("openai", "gemini", "bedrock", "generic")  # anthropic's needs a package of its own


@pytest.fixture(params=[""])
def text(request: pytest.FixtureRequest, emulators: Emulators, tmp_path: Path) -> str:
    """The manifests of an operator with Azure and other providers, for the family that is here."""
    return rendered(
        overlay(
            tmp_path,
            *("provider-azure", "identity-secret", "inbound-api-keys"),
            *([request.param] if request.param else []),
            *(f"provider-{each}" for each in KEYS),
            *(["ogx"] if FAMILY is OGX else []),
            settings=[
                "MODEL=azure/gpt-4o-mini",
                "EXTERNAL_URL=https://llm.test",
                f"AZURE_API_BASE={emulators.azure.base_url}",
                "AZURE_DEPLOYMENT=gpt-4o-mini",
                f"AZURE_TENANT_ID={emulators.entra.tenant_id}",
                f"AZURE_CLIENT_ID={emulators.entra.application.client_id}",
                "GENERIC_BASE_URL=http://127.0.0.1:9/v1",
            ],
        )
    )


@pytest.fixture
def volumes(text: str, tmp_path: Path) -> dict[str, str]:
    """The folders that are mounted, each with its files: where it is mounted → where it is here."""
    mounted = {
        "/etc/llama-stack": {"run.yaml": one(text, "ConfigMap", "llama-stack-config")},
        "/etc/lightspeed-azure": {
            "lightspeed-stack.yaml": one(text, "ConfigMap", "llm-proxy-config")
        },
        "/run/llama-stack": {},
        "/var/lib/llama-stack": {},
        TLS: {},
        CA: {},
    }
    here = {}
    for number, (path, files) in enumerate(mounted.items()):
        folder = tmp_path / f"volume-{number}"
        folder.mkdir()
        for name, source in files.items():
            (folder / name).write_text(source["data"][name])
        here[path] = str(folder)
    certificate = Certificate(host="localhost")
    Path(here[TLS], "tls.crt").write_bytes(certificate.public)
    Path(here[TLS], "tls.key").write_bytes(certificate.pem())
    Path(here[CA], "ca.crt").write_bytes(certificate.public)
    return here


def command(text: str, name: str, volumes: dict[str, str]) -> list[str]:
    """Return a container's command with its mounts where they are here."""
    program, *arguments = container(text, "llama-stack", name)["command"]
    here = [str(Path(sys.executable).with_name(program))]
    return here + [_moved(each, volumes) for each in arguments]


def variables(text: str, name: str, volumes: dict[str, str]) -> dict[str, str]:
    """Return a container's environment with its mounts where they are here."""
    keys = {f"{each.upper()}_API_KEY": "k" for each in KEYS}
    values = environment(text, "llama-stack", name, **keys)
    return {"PATH": os.environ["PATH"]} | {
        each: _moved(value, volumes) for each, value in values.items()
    }


def _moved(value: str, volumes: dict[str, str]) -> str:
    for path in sorted(volumes, key=len, reverse=True):  # one may begin another
        value = value.replace(path, volumes[path])
    return value


def ended(command: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """Run what ends by itself; return its exit code and what it printed."""
    result = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    return result.returncode, result.stdout + result.stderr


async def test_the_enriched_file_starts_a_stack_and_the_other_does_not(
    text: str, volumes: dict[str, str], emulators: Emulators, tmp_path: Path
) -> None:
    """What the init container writes starts a real stack, which answers by tokens; without it, none."""
    run = command(text, "stack", volumes)
    environ = variables(text, "stack", volumes)
    original = Path(volumes["/etc/llama-stack"], "run.yaml")
    enriched = Path(volumes["/run/llama-stack"], "run.yaml")
    url, authority = f"https://localhost:{free_port()}", Path(volumes[CA], "ca.crt")
    run[run.index("8321")] = url.rpartition(":")[2]
    unenriched = [str(original) if each == str(enriched) else each for each in run]
    code, said = ended(unenriched, environ)
    assert code != 0
    assert "AZURE_API_KEY" in said

    code, said = ended(command(text, "enrich", volumes), variables(text, "enrich", volumes))
    assert code == 0, said
    assert not [line for line in said.splitlines() if line.startswith("!")], said
    probe = container(text, "llama-stack", "stack")["startupProbe"]["httpGet"]
    assert probe["scheme"] == "HTTPS"
    manager = AzureEntraIDManager.isolated(entra_block(emulators))
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    async with server(
        run,
        health=url + probe["path"],
        folder=tmp_path,
        environment=environ,
        log=tmp_path / "stack.log",
        ca_bundle=authority,
    ):
        await holder.load(LlamaStackConfiguration(url=url, ca_bundle=authority))
        assert "Who are you?" in await ask(holder.get_client(), "Who are you?")
        await holder.close()
        trusting = ssl.create_default_context(cafile=authority)
        async with httpx.AsyncClient(trust_env=False, timeout=30, verify=trusting) as client:
            served = (await client.get(f"{url}/v1/providers")).json()["data"]
            await through_the_proxy(text, url, volumes, emulators, client)
    manager.close()
    assert emulators.azure.requests.accepted == 2
    names = {each["provider_id"] for each in served if each["api"] == "inference"}
    assert names == {"azure", *KEYS}


async def through_the_proxy(
    text: str,
    stack: str,
    volumes: dict[str, str],
    emulators: Emulators,
    client: httpx.AsyncClient,
) -> None:
    """Start the proxy's container, ask what its probes ask, and a question as a client does."""
    home = Path(volumes["/etc/lightspeed-azure"])
    application = emulators.entra.application
    (home / "client_secret").write_text(application.client_secret.get_secret_value())
    (home / "api_keys").write_text("a-key-of-a-client-that-is-long-enough\n")
    ports = {"http": free_port(), "admin": free_port()}
    proxy = container(text, "llm-proxy", "proxy")
    program, *arguments = proxy["command"]
    found = environment(text, "llm-proxy", "proxy") | {
        "PATH": os.environ["PATH"],
        "LLAMA_STACK_URL": stack,
        "LLAMA_STACK_CA_BUNDLE": str(Path(volumes[CA], "ca.crt")),
        "API_KEYS_FILE": str(home),
        "AZURE_CLIENT_SECRET_PATH": str(home),
        "AZURE_AUTHORITY_HOST": emulators.entra.authority,
        "AZURE_AUTHORITY_CA_BUNDLE": str(emulators.ca_bundle),
    }
    own = [f"--port={ports['http']}", f"--admin-port={ports['admin']}"]
    start, *others = (
        proxy[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    )
    async with server(
        [
            str(Path(sys.executable).with_name(program)),
            *(_moved(a, volumes) for a in arguments),
            *own,
        ],
        health=f"http://127.0.0.1:{ports[start['port']]}{start['path']}",
        folder=home,
        environment=found,
        log=home / "proxy.log",
    ):
        for probe in others:
            answer = await client.get(f"http://127.0.0.1:{ports[probe['port']]}{probe['path']}")
            assert answer.status_code == 200, answer.text
        url = f"http://127.0.0.1:{ports['http']}"
        told = json.loads(one(text, "ConfigMap", "llm-proxy-client")["data"]["config.json"])
        question = {"role": "user", "content": "Who calls?"}
        body = {"model": told["model"], "messages": [question]}
        refused = await client.post(f"{url}/v1/chat/completions", json=body)
        assert refused.status_code == 401
        key = {"Authorization": "Bearer a-key-of-a-client-that-is-long-enough"}
        answer = await client.post(f"{url}/v1/chat/completions", json=body, headers=key)
        assert answer.status_code == 200, answer.text
        assert "Who calls?" in answer.text
        config = (await client.get(f"{url}/client-config", headers=key)).json()
        assert config == told


@pytest.mark.parametrize("text", ["", "stack-plain-http"], indirect=True)
def test_the_proxys_configuration_is_read(
    text: str, volumes: dict[str, str], emulators: Emulators, tmp_path: Path
) -> None:
    """What the manifests give the proxy is a whole configuration: identity, stack, and their words."""
    secret = tmp_path / "azure-entra-id"
    secret.mkdir()
    value = emulators.entra.application.client_secret.get_secret_value()
    (secret / "client_secret").write_text(value)
    (tmp_path / "api_keys").write_text("")
    environ = environment(text, "llm-proxy", "proxy")
    environ |= {
        "AZURE_CLIENT_SECRET_PATH": str(secret),
        "API_KEYS_FILE": str(tmp_path),
    }
    scheme = environ["LLAMA_STACK_SCHEME"]
    if scheme == "https":
        environ["LLAMA_STACK_CA_BUNDLE"] = _moved(environ["LLAMA_STACK_CA_BUNDLE"], volumes)
    file = Path(volumes["/etc/lightspeed-azure"], "lightspeed-stack.yaml")
    read = load_configuration(file, environ=environ)
    (identity,) = read.azure_entra_id
    assert identity.provider_id == "azure"
    assert identity.client_secret_path == secret
    assert read.llama_stack is not None
    assert read.llama_stack.url == f"{scheme}://llama-stack.llm.svc:8321"
    assert read.llama_stack.allow_insecure is (scheme == "http")
    assert (read.llama_stack.ca_bundle is None) is (scheme == "http")
    assert read.llama_stack.family == FAMILY.name
    del environ["AZURE_PROVIDER_ID"]
    assert load_configuration(file, environ=environ).azure_entra_id == ()
