"""Every way to sign in, as an operator writes it into lightspeed-stack.yaml."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from entra_material import Certificate, assertion
from kubernetes_volume import KubernetesVolume
from signing_in import certified, federated

from lightspeed_azure.emulators import Emulators, ManagedIdentity

PASSWORD = "pa55-of-the-c3rtificate"

type Way = Callable[["Place"], str]
"""Prepares the place and returns what stands behind `azure_entra_id:`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is configured: emulated services, a folder, and the environment."""

    emu: Emulators
    folder: Path
    patch: pytest.MonkeyPatch

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file and return its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def secret(self) -> str:
        """Return the client secret of the default application."""
        return self.emu.entra.application.client_secret.get_secret_value()

    def set(self, **variables: str) -> None:
        """Set environment variables."""
        for name, value in variables.items():
            self.patch.setenv(name, value)

    def application(self, more: str) -> str:
        """Return a block of the default application."""
        entra = self.emu.entra
        return (
            f"\n  tenant_id: {entra.tenant_id}\n  client_id: {entra.application.client_id}"
            f"\n  authority_host: {entra.authority}\n  ca_bundle: {self.emu.ca_bundle}\n{more}"
        )


def client_secret(place: Place) -> str:
    """A client secret in a variable."""
    place.set(COMPANY_SECRET=place.secret())
    return place.application("  client_secret: ${env.COMPANY_SECRET}\n")


def client_secret_file(place: Place) -> str:
    """A client secret in a file."""
    return place.application(f"  client_secret_path: {place.file('s', place.secret() + chr(10))}\n")


def client_secret_directory(place: Place) -> str:
    """A client secret in a directory, as Kubernetes mounts it."""
    volume = KubernetesVolume(place.folder / "azure", client_secret=place.secret())
    return place.application(f"  client_secret_path: {volume.path}\n")


def certificate_pem(place: Place) -> str:
    """A certificate in PEM."""
    certificate = Certificate()
    certified(place.emu, certificate)
    return place.application(f"  certificate_path: {place.file('c.pem', certificate.pem())}\n")


def certificate_pfx(place: Place) -> str:
    """A certificate in PFX with a password and the chain."""
    certificate = Certificate()
    certified(place.emu, certificate)
    place.set(COMPANY_PASSWORD=PASSWORD)
    file = place.file("c.pfx", certificate.pfx(PASSWORD, chain=[Certificate(1)]))
    return place.application(
        f"  certificate_path: {file}\n"
        "  certificate_password: ${env.COMPANY_PASSWORD}\n"
        "  send_certificate_chain: true\n"
    )


def federated_token_file(place: Place) -> str:
    """A federated assertion, as a cluster projects it."""
    federated(place.emu)
    volume = KubernetesVolume(
        place.folder / "tokens", **{"azure-identity-token": assertion(seconds=600)}
    )
    return place.application(f"  federated_token_file: {volume.path}/azure-identity-token\n")


def managed_identity_system(place: Place) -> str:
    """The managed identity of the machine itself."""
    return "\n  managed_identity: system\n"


def managed_identity_client_id(place: Place) -> str:
    """An assigned managed identity, by its client id."""
    return f"\n  managed_identity: {{client_id: {assigned(place.emu).client_id}}}\n"


def managed_identity_object_id(place: Place) -> str:
    """An assigned managed identity, by its object id."""
    return f"\n  managed_identity:\n    object_id: {assigned(place.emu).object_id}\n"


def managed_identity_resource_id(place: Place) -> str:
    """An assigned managed identity, by its resource id."""
    return f"\n  managed_identity:\n    resource_id: {assigned(place.emu).resource_id}\n"


FACTORY = """
import os
from azure.identity import ClientSecretCredential

def make():
    return ClientSecretCredential(
        os.environ["COMPANY_TENANT"], os.environ["COMPANY_CLIENT"], os.environ["COMPANY_SECRET"],
        authority=os.environ["COMPANY_AUTHORITY"], connection_verify=os.environ["COMPANY_CA"],
        disable_instance_discovery=True,
    )
"""


def foreign_credential(place: Place) -> str:
    """A credential of the company's own."""
    entra = place.emu.entra
    place.set(
        COMPANY_TENANT=entra.tenant_id,
        COMPANY_CLIENT=entra.application.client_id,
        COMPANY_SECRET=place.secret(),
        COMPANY_AUTHORITY=entra.authority,
        COMPANY_CA=str(place.emu.ca_bundle),
    )
    package = place.folder / "a_company"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "azure.py").write_text(FACTORY)
    place.patch.syspath_prepend(place.folder)
    for name in ("a_company", "a_company.azure"):
        place.patch.delitem(sys.modules, name, raising=False)
    return "\n  credential: 'a_company.azure:make'\n"


AZ = """#!{python}
import json, time
print(json.dumps({{"accessToken": "{token}", "expires_on": int(time.time()) + 1800}}))
"""


def azure_cli(place: Place) -> str:
    """A developer's own sign-in; `az` here is a stand-in with az's output."""
    token = place.emu.entra.issue(resource="https://cognitiveservices.azure.com")
    place.file("az", AZ.format(python=sys.executable, token=token.value)).chmod(0o755)
    place.set(PATH=str(place.folder))
    return "\n  azure_cli: true\n"


def default(place: Place) -> str:
    """azure-identity's own chain, which finds the variables."""
    place.set(**place.emu.environment())
    return "\n  default: true\n"


def environment_secret(place: Place) -> str:
    """An empty block: a client secret from the environment."""
    place.set(**place.emu.environment())
    return " # everything from the environment\n"


def environment_certificate(place: Place) -> str:
    """An empty block: a certificate from the environment."""
    place.set(**place.emu.environment())
    place.patch.delenv("AZURE_CLIENT_SECRET")
    certificate = Certificate()
    certified(place.emu, certificate)
    place.set(
        AZURE_CLIENT_CERTIFICATE_PATH=str(place.file("c.pem", certificate.pem(PASSWORD))),
        AZURE_CLIENT_CERTIFICATE_PASSWORD=PASSWORD,
    )
    return "\n"


def environment_workload(place: Place) -> str:
    """An empty block: what AKS gives to a pod."""
    place.set(**place.emu.environment())
    place.patch.delenv("AZURE_CLIENT_SECRET")
    federated(place.emu)
    place.set(AZURE_FEDERATED_TOKEN_FILE=str(place.file("token", assertion())))
    return " {}\n"


def assigned(emu: Emulators) -> ManagedIdentity:
    """Return the managed identity that was assigned to the emulated machine."""
    (one,) = (each for each in emu.imds.identities if not each.system)
    return one


def system(emu: Emulators) -> ManagedIdentity:
    """Return the managed identity of the emulated machine itself."""
    (one,) = (each for each in emu.imds.identities if each.system)
    return one


WAYS: dict[Way, tuple[str, str]] = {
    client_secret: ("client_secret", "client_secret"),
    client_secret_file: ("client_secret", "client_secret"),
    client_secret_directory: ("client_secret", "client_secret"),
    certificate_pem: ("certificate", "certificate"),
    certificate_pfx: ("certificate", "certificate"),
    federated_token_file: ("federated_token_file", "federated"),
    managed_identity_system: ("managed_identity", "system"),
    managed_identity_client_id: ("managed_identity", "assigned"),
    managed_identity_object_id: ("managed_identity", "assigned"),
    managed_identity_resource_id: ("managed_identity", "assigned"),
    foreign_credential: ("credential", "client_secret"),
    azure_cli: ("azure_cli", "az"),
    default: ("default", "client_secret"),
    environment_secret: ("client_secret", "client_secret"),
    environment_certificate: ("certificate", "certificate"),
    environment_workload: ("federated_token_file", "federated"),
}
"""Each way, the kind that it chooses, and what the emulators see of it."""
