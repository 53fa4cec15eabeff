"""The errors of Entra ID about client assertions, in the real service's words.

No text echoes an assertion; issuer, subject and audience are named, as the real service does.
"""

import datetime as dt

from lightspeed_azure.emulators.aadsts import EntraError

_FEDERATION = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_ASSERTIONS = "https://learn.microsoft.com/entra/identity-platform/certificate-credentials"


def malformed_assertion() -> EntraError:
    """The assertion is not a JSON Web Token."""
    return EntraError(50027, 400, "invalid_request", "JWT token is invalid or malformed.")


def expired_assertion(now: float, valid_from: float, expires: float) -> EntraError:
    """The assertion is not valid at this moment."""
    current, start, end = (
        f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"
        for moment in (now, valid_from, expires)
    )
    return EntraError(
        700024,
        401,
        "invalid_client",
        f"Client assertion is not within its valid time range. Current time: {current}, assertion"
        f" valid from {start}, expiry time of assertion {end}. Review the documentation at"
        f" {_ASSERTIONS} .",
    )


def wrong_assertion_audience() -> EntraError:
    """The assertion is meant for somebody else."""
    return EntraError(
        700023,
        401,
        "invalid_client",
        "Client assertion audience claim does not match Realm issuer. Review the documentation at"
        f" {_ASSERTIONS} .",
    )


def wrong_assertion_subject() -> EntraError:
    """The assertion speaks for another application."""
    return EntraError(
        700021,
        401,
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter. Review the"
        f" documentation at {_ASSERTIONS} .",
    )


def unregistered_certificate(client_id: str) -> EntraError:
    """The application has no certificate with that thumbprint."""
    return EntraError(
        700027,
        401,
        "invalid_client",
        "The certificate with identifier used to sign the client assertion is not registered on"
        " application. [Reason - The key was not found., Please visit the Azure Portal, Graph"
        f" Explorer or directly use MS Graph to see configured keys for app Id '{client_id}'.]",
    )


def bad_signature(client_id: str) -> EntraError:
    """The certificate is registered, and did not make this signature."""
    return EntraError(
        700027,
        401,
        "invalid_client",
        "Client assertion contains an invalid signature. [Reason - The key was found, but use of"
        f" the key to verify the signature failed., app Id '{client_id}'.]",
    )


def unfederated(issuer: str, subject: str, audience: str) -> EntraError:
    """The application trusts no other issuer at all (the general form of the error)."""
    return EntraError(
        70021,
        400,
        "invalid_request",
        "No matching federated identity record found for presented assertion. Assertion Issuer:"
        f" '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
        f" {_FEDERATION}",
    )


def federation_mismatch(code: int, what: str, value: str) -> EntraError:
    """The application trusts others: 700211 wrong issuer, 700212 audience, 700213 subject."""
    return EntraError(
        code,
        401,
        "invalid_client",
        f"No matching federated identity record found for presented assertion {what} '{value}'."
        " Check your federated identity credential Subject, Audience and Issuer against the"
        f" presented assertion. {_FEDERATION}",
    )


def bad_federated_signature() -> EntraError:
    """The trusted issuer's key did not make this signature."""
    return EntraError(
        50013,
        401,
        "invalid_client",
        "Assertion failed signature validation. [Reason - The key was not found.]",
    )
