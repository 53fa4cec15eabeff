"""A real stack with seven providers, each of which asks an emulator that checks the key."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from integration_support import RUN_CONFIG
from provider_emulators import KeyedProvider, ProviderEmulators

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One provider, and what its key is called.

    Attributes:
        name: its `provider_id`.
        provider_type: as the stack has it.
        field: what its key fills.
        config: the emulators → its configuration in the stack.
        service: the emulators → who checks the key.
        source: which source has the key.
    """

    name: str
    provider_type: str
    field: str
    config: Callable[[ProviderEmulators], dict[str, str]]
    service: Callable[[ProviderEmulators], KeyedProvider]
    source: str = "file"

    @property
    def model(self) -> str:
        """What to ask for."""
        return f"{self.name}/model-of-{self.name}"

    def content(self, key: str) -> str:
        """Return what the file holds for a key."""
        return key if self.source == "file" else service_account(key, "")

    def allow(self, emulators: ProviderEmulators, key: str) -> None:
        """Let only this key be good."""
        if self.source == "google":
            emulators.google.keys = (key,)
            self.service(emulators).keys = ()
        elif self.name == "watsonx":
            emulators.iam.allow(key)
        else:
            self.service(emulators).keys = (key,)

    def seen(self, emulators: ProviderEmulators, key: str) -> int:
        """Return how many good requests came with this key, or with a token for it."""
        if self.name == "watsonx":
            return emulators.watsonx.accepted_with(emulators.iam.token(key))
        return self.service(emulators).accepted_with(key)


KINDS = (
    Kind(
        "openai",
        "remote::openai",
        "openai_api_key",
        lambda emu: {"base_url": f"{emu.openai.endpoint}/v1"},
        lambda emu: emu.openai,
    ),
    Kind(
        "azure-static",
        "remote::azure",
        "azure_api_key",
        lambda emu: {"base_url": f"{emu.azure.endpoint}/openai/v1"},
        lambda emu: emu.azure,
    ),
    Kind(
        "watsonx",
        "remote::watsonx",
        "watsonx_api_key",
        lambda emu: {"base_url": emu.watsonx.endpoint, "project_id": "p"},
        lambda emu: emu.watsonx,
    ),
    Kind(
        "rhoai",
        "remote::vllm",
        "vllm_api_token",
        lambda emu: {"base_url": f"{emu.rhoai.endpoint}/v1"},
        lambda emu: emu.rhoai,
    ),
    Kind(
        "rhelai",
        "remote::vllm",
        "vllm_api_token",
        lambda emu: {"base_url": f"{emu.rhelai.endpoint}/v1"},
        lambda emu: emu.rhelai,
    ),
    Kind(
        "vertex",
        "remote::vertexai",
        "vertex_access_token",
        lambda _: {"project": "p", "location": "global"},
        lambda emu: emu.vertex,
    ),
)
"""The six whose keys OpenShift Lightspeed reloads."""

CLAUDE = Kind(
    "claude",
    "remote::vllm",
    "vllm_api_token",
    lambda emu: {"base_url": f"{emu.claude.endpoint}/v1"},
    lambda emu: emu.claude,
    "google",
)
"""Claude of Vertex AI, which neither stack can ask by itself: behind an OpenAI-compatible gateway."""


def service_account(kid: str, endpoint: str) -> str:
    """Return the JSON of a Google service account whose key has this id.

    Args:
        kid: tells the emulator whether the key is good.
        endpoint: of Google's tokens.
    """
    info = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": kid,
        "private_key": _KEY.decode(),
        "client_email": "robot@p.iam.gserviceaccount.com",
        "token_uri": f"{endpoint}/token",
    }
    return json.dumps(info, indent=2)


def run_config(folder: Path, emulators: ProviderEmulators) -> Path:
    """Return the stack's configuration file."""
    providers, models = [], []
    for kind in (*KINDS, CLAUDE):
        providers.append(
            {
                "provider_id": kind.name,
                "provider_type": kind.provider_type,
                "config": kind.config(emulators),
            }
        )
        name = f"model-of-{kind.name}"
        models.append(
            {
                "model_id": name,
                "provider_id": kind.name,
                "provider_model_id": name,
                "model_type": "llm",
            }
        )
    config = yaml.safe_load(RUN_CONFIG.read_text())
    config["providers"]["inference"] = providers
    config["registered_resources"]["models"] = models
    file = folder / "providers.yaml"
    file.write_text(yaml.safe_dump(config))
    return file
