"""Certificates and federated tokens in the place of a client secret."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    WorkloadIdentityCredential,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from entra_material import ISSUER, SUBJECT, Certificate, assertion, public_key, rsa_key

from lightspeed_azure.emulators import Application, Emulators, FederatedCredential

SCOPE = "https://cognitiveservices.azure.com/.default"


def common(emu: Emulators) -> dict[str, Any]:
    """Return what every credential is told about the emulator."""
    return {
        "authority": emu.entra.authority,
        "disable_instance_discovery": True,
        "connection_verify": str(emu.ca_bundle),
        "retry_total": 0,
    }


def register(emu: Emulators, **proofs: Any) -> Application:
    """Register an application that has no secret."""
    return emu.entra.register(Application(tenant_id=emu.entra.tenant_id, **proofs))


def own_assertion(
    emu: Emulators, application: Application, certificate: Certificate, **claims: object
) -> str:
    """Sign an assertion as MSAL does for a certificate (x5t#S256)."""
    from lightspeed_azure.emulators.certificates import ClientCertificate

    now = int(time.time())
    usual = {
        "aud": f"{emu.entra.authority}/{application.tenant_id}/oauth2/v2.0/token",
        "iss": application.client_id,
        "sub": application.client_id,
        "nbf": now - 10,
        "exp": now + 600,
    }
    thumbprint = ClientCertificate.from_pem(certificate.public).sha256
    key = certificate.key
    assert isinstance(key, rsa.RSAPrivateKey)
    return jwt.encode({**usual, **claims}, key, "PS256", headers={"x5t#S256": thumbprint})


def by_assertion(
    emu: Emulators, application: Application, make: Callable[[], str]
) -> ClientAssertionCredential:
    """Return azure-identity's credential for any assertion."""
    return ClientAssertionCredential(
        application.tenant_id, application.client_id, func=make, **common(emu)
    )


@pytest.mark.parametrize("chain", [False, True], ids=["x5t", "with the chain"])
def test_a_registered_certificate(azure_emulators: Emulators, chain: bool) -> None:
    """CertificateCredential gets in with the certificate that the application registered."""
    certificate = Certificate()
    application = register(
        azure_emulators, certificates=[Certificate(1).public, certificate.public]
    )
    with CertificateCredential(
        application.tenant_id,
        application.client_id,
        certificate_data=certificate.pem(),
        send_certificate_chain=chain,
        **common(azure_emulators),
    ) as mine:
        token = mine.get_token(SCOPE).token
    assert jwt.decode(token, options={"verify_signature": False})["appidacr"] == "2"
    assert dict(azure_emulators.entra.requests.by_grant) == {"certificate": 1}


def test_an_unregistered_certificate(azure_emulators: Emulators) -> None:
    """AADSTS700027: the application does not know the thumbprint."""
    application = register(azure_emulators, certificates=[Certificate(1).public])
    with (
        CertificateCredential(
            application.tenant_id,
            application.client_id,
            certificate_data=Certificate().pem(),
            **common(azure_emulators),
        ) as mine,
        pytest.raises(
            ClientAuthenticationError, match="AADSTS700027: The certificate with identifier"
        ),
    ):
        mine.get_token(SCOPE)


def test_a_forged_signature(azure_emulators: Emulators) -> None:
    """AADSTS700027: the thumbprint is registered, another key signed."""
    certificate = Certificate()
    application = register(azure_emulators, certificates=[certificate.public])
    forger = Certificate()
    forger.certificate, forger.key = certificate.certificate, rsa_key(1)
    with (
        by_assertion(
            azure_emulators,
            application,
            lambda: own_assertion(azure_emulators, application, forger),
        ) as mine,
        pytest.raises(
            ClientAuthenticationError,
            match="AADSTS700027: Client assertion contains an invalid signature",
        ),
    ):
        mine.get_token(SCOPE)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1_000_000_000}, 700024),
        ({"nbf": 9_000_000_000}, 700024),
        ({"aud": "https://elsewhere.test"}, 700023),
        ({"sub": "somebody-else"}, 700021),
    ],
)
def test_assertions_that_say_the_wrong_thing(
    azure_emulators: Emulators, claims: dict[str, object], code: int
) -> None:
    """A good signature does not mend a wrong time, audience or subject."""
    certificate = Certificate()
    application = register(azure_emulators, certificates=[certificate.public])
    with (
        by_assertion(
            azure_emulators,
            application,
            lambda: own_assertion(azure_emulators, application, certificate, **claims),
        ) as mine,
        pytest.raises(ClientAuthenticationError, match=f"AADSTS{code}: "),
    ):
        mine.get_token(SCOPE)


def test_a_projected_service_account_token(azure_emulators: Emulators, tmp_path: Path) -> None:
    """WorkloadIdentityCredential gets in with the token of a cluster that the application trusts."""
    application = register(
        azure_emulators, federated=[FederatedCredential(ISSUER, SUBJECT, key=public_key())]
    )
    file = tmp_path / "token"
    file.write_text(assertion())
    with WorkloadIdentityCredential(
        tenant_id=application.tenant_id,
        client_id=application.client_id,
        token_file_path=str(file),
        **common(azure_emulators),
    ) as mine:
        assert mine.get_token(SCOPE).token
    assert dict(azure_emulators.entra.requests.by_grant) == {"federated": 1}


def test_a_federation_by_key_set(azure_emulators: Emulators) -> None:
    """The issuer's key may be given as the key set that it publishes."""
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(0).public_key(), as_dict=True)
    application = register(
        azure_emulators,
        federated=[FederatedCredential(ISSUER, SUBJECT, key={"keys": [{**jwk, "kid": "1"}]})],
    )
    with by_assertion(azure_emulators, application, assertion) as mine:
        assert mine.get_token(SCOPE).token


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: assertion(iss="https://other.test"), 700211),
        (lambda: assertion(aud="https://other.test"), 700212),
        (lambda: assertion(sub="system:serviceaccount:other:stack"), 700213),
        (lambda: assertion(number=1), 50013),
        (lambda: assertion(seconds=-60), 700024),
        (lambda: "no-jwt", 50027),
    ],
)
def test_federated_tokens_that_do_not_match(
    azure_emulators: Emulators, make: Callable[[], str], code: int
) -> None:
    """Issuer, audience, subject, signature and time are each judged."""
    application = register(
        azure_emulators, federated=[FederatedCredential(ISSUER, SUBJECT, key=public_key())]
    )
    with (
        by_assertion(azure_emulators, application, make) as mine,
        pytest.raises(ClientAuthenticationError, match=f"AADSTS{code}: "),
    ):
        mine.get_token(SCOPE)


def test_an_application_that_trusts_nobody(azure_emulators: Emulators) -> None:
    """AADSTS70021 when the application has no federated credential at all."""
    application = register(azure_emulators, secrets=["x"])
    with (
        by_assertion(azure_emulators, application, assertion) as mine,
        pytest.raises(
            ClientAuthenticationError, match="AADSTS70021: No matching federated identity record"
        ),
    ):
        mine.get_token(SCOPE)


def test_certificates_that_entra_does_not_take() -> None:
    """An application cannot register a certificate with an elliptic key."""
    with pytest.raises(ValueError, match="RSA certificates only"):
        Application(tenant_id="t", certificates=[Certificate(elliptic=True).public])


def test_the_assertion_is_judged_by_the_issuers_clock() -> None:
    """An assertion that is good by our clock has expired for a service whose clock is ahead."""
    with Emulators(clock=lambda: time.time() + 3600) as emu:
        application = register(
            emu, federated=[FederatedCredential(ISSUER, SUBJECT, key=public_key())]
        )
        with (
            by_assertion(emu, application, assertion) as mine,
            pytest.raises(ClientAuthenticationError, match="AADSTS700024"),
        ):
            mine.get_token(SCOPE)
