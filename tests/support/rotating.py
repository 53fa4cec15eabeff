"""The credentials that can be rotated, each with the file that holds it."""

import itertools

from entra_material import Certificate, assertion
from signing_in import certified, federated

from lightspeed_azure.emulators import Emulators


class SecretRotation:
    """A client secret in a file, and how it is rotated at Entra ID.

    Attributes:
        name: of the file in a directory.
        key: of the configuration.
        grant: what Entra ID calls the proof.
    """

    name = "client_secret"
    key = "client_secret_path"
    grant = "client_secret"

    def __init__(self, emu: Emulators) -> None:
        self.emu = emu

    def good(self) -> bytes:
        """Return what the file holds when it is good."""
        return self.emu.entra.application.client_secret.get_secret_value().encode()

    def rotate(self) -> bytes:
        """Let only a new one be good, and return it."""
        return self.emu.entra.rotate_secret().get_secret_value().encode()

    def half(self) -> bytes:
        """Return what a writer leaves who was interrupted."""
        return b""


class CertificateRotation(SecretRotation):
    """The same of a certificate."""

    name = "tls-combined.pem"
    key = "certificate_path"
    grant = "certificate"

    def __init__(self, emu: Emulators) -> None:
        super().__init__(emu)
        self.numbers = itertools.count()
        self.current = b""
        self.rotate()

    def good(self) -> bytes:
        """Return key and certificate."""
        return self.current

    def rotate(self) -> bytes:
        """Register another certificate in the place of this one."""
        certificate = Certificate(next(self.numbers) % 2)
        certified(self.emu, certificate)
        self.current = certificate.pem()
        return self.current

    def half(self) -> bytes:
        """Return the first half of the file."""
        return self.current[: len(self.current) // 2]


class AssertionRotation(SecretRotation):
    """The same of a federated assertion."""

    name = "azure-identity-token"
    key = "federated_token_file"
    grant = "federated"

    def __init__(self, emu: Emulators) -> None:
        super().__init__(emu)
        self.numbers = itertools.count()
        self.rotate()

    def good(self) -> bytes:
        """Return an assertion that the application trusts."""
        return assertion(sub=self.subject).encode()

    def rotate(self) -> bytes:
        """Let the application trust another workload alone."""
        self.subject = f"workload-{next(self.numbers)}"
        federated(self.emu, subject=self.subject)
        return self.good()

    def half(self) -> bytes:
        """Return an assertion without its signature."""
        return b".".join(self.good().split(b".")[:2])


ROTATIONS = [SecretRotation, CertificateRotation, AssertionRotation]
