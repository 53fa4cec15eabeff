"""The errors of Entra ID, in the real service's words.

Codes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes. The error names,
statuses and texts were taken from answers of the real service that users published; where two
generations of a text exist, the newer one is used. No text echoes a secret or an
assertion; issuer, subject and audience of an assertion are named, as the real service does.
"""

import datetime as dt
import uuid

from lightspeed_azure.emulators.service import Response

_FEDERATION = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_ASSERTIONS = "https://learn.microsoft.com/entra/identity-platform/certificate-credentials"


class EntraError(Exception):
    """A refusal of Entra ID.

    Args:
        code: without "AADSTS".
        status: of HTTP.
        error: the OAuth 2.0 error name (RFC 6749, section 5.2).
        text: the description, without code and trailer.
    """

    def __init__(self, code: int, status: int, error: str, text: str) -> None:
        super().__init__(f"AADSTS{code}")
        self.code = code
        self.status = status
        self.error = error
        self.text = text

    @property
    def outcome(self) -> str:
        """How the refusal is counted."""
        return f"AADSTS{self.code}"

    def answer(self, *, now: float, correlation_id: str, authority: str) -> Response:
        """Return the body that the real service sends.

        Args:
            now: seconds since the epoch by the issuer's clock.
            correlation_id: the client's ``client-request-id``, or "".
            authority: for the link in ``error_uri``.
        """
        stamp = f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d %H:%M:%SZ}"
        trace_id = str(uuid.uuid4())
        correlation_id = correlation_id or str(uuid.uuid4())
        return Response.of(
            {
                "error": self.error,
                "error_description": (
                    f"AADSTS{self.code}: {self.text} Trace ID: {trace_id}"
                    f" Correlation ID: {correlation_id} Timestamp: {stamp}"
                ),
                "error_codes": [self.code],
                "timestamp": stamp,
                "trace_id": trace_id,
                "correlation_id": correlation_id,
                "error_uri": f"{authority}/error?code={self.code}",
            },
            status=self.status,
        )


def wrong_secret(client_id: str) -> EntraError:
    """The client secret is not one of the application's."""
    return EntraError(
        7000215,
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client"
        f" secret value, not the client secret ID, for a secret added to app '{client_id}'.",
    )


def expired_secret(client_id: str) -> EntraError:
    """The client secret was right, and has ended."""
    return EntraError(
        7000222,
        401,
        "invalid_client",
        f"The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal"
        " to create new keys for your app: https://aka.ms/NewClientSecret, or consider using"
        " certificate credentials for added security: https://aka.ms/certCreds.",
    )


def no_proof() -> EntraError:
    """Neither a secret nor an assertion was sent."""
    return EntraError(
        7000216,
        401,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials'"
        " grant type.",
    )


def unknown_application(client_id: str, tenant_id: str) -> EntraError:
    """The tenant does not know the client id."""
    return EntraError(
        700016,
        400,
        "unauthorized_client",
        f"Application with identifier '{client_id}' was not found in the directory '{tenant_id}'."
        " This can happen if the application has not been installed by the administrator of the"
        " tenant or consented to by any user in the tenant. You may have sent your authentication"
        " request to the wrong tenant.",
    )


def unknown_tenant(tenant_id: str, *, discovery: bool = False) -> EntraError:
    """No such tenant; discovery calls the same error invalid_tenant."""
    return EntraError(
        90002,
        400,
        "invalid_tenant" if discovery else "invalid_request",
        f"Tenant '{tenant_id}' not found. Check to make sure you have the correct tenant ID and are"
        " signing into the correct cloud. Check with your subscription administrator, this may"
        " happen if there are no active subscriptions for the tenant.",
    )


def invalid_scope(scope: str) -> EntraError:
    """The scope is not a resource followed by ``/.default``."""
    return EntraError(
        70011,
        400,
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the"
        f" input parameter 'scope' is not valid. The scope {scope} is not valid. The scope format is"
        " invalid. Scope must be in a valid URI form <https://example/scope> or a valid Guid"
        " <guid/scope>.",
    )


def missing_parameter(name: str) -> EntraError:
    """A required form field is missing."""
    return EntraError(
        900144,
        400,
        "invalid_request",
        f"The request body must contain the following parameter: '{name}'.",
    )


def unsupported_grant(grant: str) -> EntraError:
    """Only client_credentials is emulated."""
    return EntraError(
        70003,
        400,
        "unsupported_grant_type",
        f"The app requested an unsupported grant type '{grant}'.",
    )


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
    """The assertion has another audience."""
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
