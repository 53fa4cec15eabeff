"""The client-credentials grant: who asks for a token, for which resource, and what proves it.

RFC 6749, section 4.4; the assertion forms are those of RFC 7523.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lightspeed_azure.emulators import aadsts
from lightspeed_azure.emulators.applications import Application
from lightspeed_azure.emulators.assertions import Assertion
from lightspeed_azure.emulators.directory import Directory
from lightspeed_azure.emulators.exchange import Request

_SCOPE = re.compile(r"(?:[a-z][a-z0-9+.-]*://[^\s/]+\S*|[0-9a-fA-F-]{36})/\.default")
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client may have.

    Args:
        application: who asks.
        resource: the scope without ``/.default``.
        proof: "client_secret", "certificate" or "federated".
    """

    application: Application
    resource: str
    proof: str


def authenticate(
    request: Request, tenant: str, *, directory: Directory, authority: str, now: float
) -> Grant:
    """Return what the client may have.

    Args:
        request: to the token endpoint.
        tenant: from its path.
        directory: who is known.
        authority: the base URL; assertions name it as their audience.
        now: seconds since the epoch by the issuer's clock.

    Raises:
        EntraError: why it may have nothing.
    """
    if request.method != "POST":
        raise aadsts.missing_parameter("grant_type")
    form = {**request.basic(), **request.form()}
    directory.know(tenant)
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            raise aadsts.missing_parameter(name)
    if form["grant_type"] != "client_credentials":
        raise aadsts.unsupported_grant(form["grant_type"])
    scope = form["scope"]
    if not _SCOPE.fullmatch(scope):
        raise aadsts.invalid_scope(scope)
    application = directory.find(tenant, form["client_id"])
    proof = _prove(application, form, authority=authority, now=now)
    return Grant(application, scope.removesuffix("/.default"), proof)


def _prove(application: Application, form: Mapping[str, str], *, authority: str, now: float) -> str:
    if form.get("client_assertion_type") == _JWT_BEARER and form.get("client_assertion"):
        assertion = Assertion.read(form["client_assertion"])
        base = f"{authority}/{application.tenant_id}"
        audiences = frozenset({f"{base}/oauth2/v2.0/token", f"{base}/v2.0", base})
        assertion.verify(application, audiences=audiences, now=now)
        return assertion.grant(application)
    if not form.get("client_secret"):
        raise aadsts.no_proof()
    for secret in application.secrets:
        if secret.matches(form["client_secret"]):
            if secret.expires_on is not None and now >= secret.expires_on:
                raise aadsts.expired_secret(application.client_id)
            return "client_secret"
    raise aadsts.wrong_secret(application.client_id)
