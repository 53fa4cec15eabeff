"""What Entra ID's codes mean here, and what cures them.

Source: https://learn.microsoft.com/entra/identity-platform/reference-error-codes (November 2026).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code means.

    Attributes:
        what: a sentence with {client}, {tenant}, {scope}, {authority} and {source} to fill in.
        cure: one line on what to do, likewise.
        permanent: whether only a change of configuration helps.
        secret: whether the credential itself is refused, so that another one may be accepted.
    """

    what: str
    cure: str
    permanent: bool = True
    secret: bool = False


_FEDERATED = "Compare issuer, subject and audience of the federated credential with the assertion"
_ASK = "Ask the administrator of the tenant"

MEANINGS: Mapping[str, Meaning] = {
    "7000215": Meaning(
        "Entra ID refuses the client secret of application {client}",
        "Give the secret's value, not its ID, in {source}; or create a new one",
        secret=True,
    ),
    "7000222": Meaning(
        "The client secret of application {client} has expired",
        "Create a new one under Certificates & secrets and put its value into {source}",
        secret=True,
    ),
    "7000216": Meaning(
        "Entra ID got no credential for application {client}",
        "Check that {source} holds the credential itself",
        secret=True,
    ),
    "7000218": Meaning(
        "Entra ID got no credential for application {client}",
        "Check that {source} holds the credential itself",
        secret=True,
    ),
    "700016": Meaning(
        "Application {client} was not found in tenant {tenant}",
        "Check client_id and tenant_id, or have the application consented to in that tenant",
    ),
    "7000112": Meaning("Application {client} is disabled", f"{_ASK} to enable it"),
    "700027": Meaning(
        "Entra ID does not accept the certificate of application {client}",
        "Upload the certificate in {source} to the application, or renew it if it has expired",
        secret=True,
    ),
    "700024": Meaning(
        "The assertion for application {client} is outside of its time",
        "Check that {source} is renewed, and that this machine's clock is right",
        secret=True,
    ),
    "700023": Meaning(
        "The audience of the assertion for application {client} is another authority",
        "Check authority_host and cloud, and that {source} was issued for api://AzureADTokenExchange",
        secret=True,
    ),
    "700021": Meaning(
        "The assertion in {source} is for another application than {client}",
        "Check client_id, or give the assertion of this application",
        secret=True,
    ),
    "70021": Meaning(
        "Application {client} trusts no issuer like that of the assertion in {source}",
        _FEDERATED,
        secret=True,
    ),
    "700211": Meaning(
        "Application {client} does not trust the issuer of the assertion in {source}",
        _FEDERATED,
        secret=True,
    ),
    "700212": Meaning(
        "Application {client} expects another audience than that of the assertion in {source}",
        _FEDERATED,
        secret=True,
    ),
    "700213": Meaning(
        "Application {client} expects another subject than that of the assertion in {source}",
        _FEDERATED,
        secret=True,
    ),
    "50013": Meaning(
        "The signature of the assertion in {source} does not fit its issuer's keys",
        "Check that the issuer's keys are published, and that the file is the issuer's newest",
        secret=True,
    ),
    "50027": Meaning(
        "The assertion in {source} is not a valid JSON Web Token",
        "Write the whole assertion into the file",
        secret=True,
    ),
    "90002": Meaning(
        "Tenant {tenant} was not found at {authority}",
        "Check tenant_id, and that cloud or authority_host is that of the tenant",
    ),
    "900023": Meaning(
        "Tenant {tenant} is neither an id nor a domain", "Give the directory id as tenant_id"
    ),
    "90038": Meaning(
        "Tenant {tenant} is in another cloud than {authority}", "Set cloud to that of the tenant"
    ),
    "900382": Meaning(
        "Application {client} is in another cloud than {authority}",
        "Set cloud to that of the application",
    ),
    "900439": Meaning(
        "Application {client} is in another cloud than {authority}",
        "Set cloud to that of the application",
    ),
    "500011": Meaning(
        "Tenant {tenant} knows no service for scope {scope}",
        "Set cloud, which chooses the right scope; or correct scope",
    ),
    "70011": Meaning("Scope {scope} is not valid", "Remove scope, so that cloud chooses it"),
    "1002012": Meaning("Scope {scope} is not valid", "Remove scope, so that cloud chooses it"),
    "650057": Meaning(
        "Application {client} may not ask for scope {scope}", "Remove scope, or grant it"
    ),
    "501051": Meaning(
        "Application {client} has no role at the service of scope {scope}",
        "Assign it the role Cognitive Services OpenAI User",
    ),
    "53003": Meaning(
        "Conditional access blocks application {client}",
        f"{_ASK} to let it sign in from this network",
    ),
    "50034": Meaning("The account does not exist in tenant {tenant}", "Check tenant_id"),
    "50057": Meaning("The account is disabled", f"{_ASK} to enable it"),
    "50076": Meaning("The account needs another factor", "Sign in again: az login"),
    "50173": Meaning("The session has ended", "Sign in again: az login"),
    "700082": Meaning("The session has expired", "Sign in again: az login"),
    "90033": Meaning("Entra ID is not available just now", "", permanent=False),
    "50196": Meaning("Entra ID saw too many equal requests", "", permanent=False),
}


def link(code: str) -> str:
    """Return Microsoft's page about a code."""
    return f"https://login.microsoftonline.com/error?code={code}" if code else ""
