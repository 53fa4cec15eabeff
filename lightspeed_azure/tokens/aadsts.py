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
        cure: one line on what to do, with the same names.
        permanent: whether only a change of configuration helps.
        secret: whether the credential itself is refused, so that another one may be accepted.
    """

    what: str
    cure: str
    permanent: bool = True
    secret: bool = False


_FEDERATED = (
    "Compare issuer, subject and audience of the federated credential with those of the assertion, "
    "which lightspeed-azure check shows"
)
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
    # Assertions
    "70023": Meaning(
        "Entra ID does not accept the assertion in {source} for application {client}",
        _FEDERATED,
        secret=True,
    ),
    "70025": Meaning(
        "Application {client} has no federated credential",
        "Add one, with the issuer, subject and audience that lightspeed-azure check shows",
    ),
    "700222": Meaning(
        "The assertion in {source} was issued by Entra ID itself, which is not accepted here",
        "Use managed_identity, or an assertion of another issuer",
        secret=True,
    ),
    "700229": Meaning(
        "The assertion in {source} is a user's token",
        "Give one that was issued to an application or a service account",
        secret=True,
    ),
    "700236": Meaning(
        "The assertion in {source} is from another tenant of Entra ID than {tenant}",
        "Use an identity of that tenant, or a certificate or secret of the application",
        secret=True,
    ),
    **dict.fromkeys(
        ("700223", "700238", "7002381"),
        Meaning(
            "A policy of tenant {tenant} does not allow the issuer of the assertion in {source}",
            f"{_ASK} to allow this issuer for federated credentials",
        ),
    ),
    "500133": Meaning(
        "The assertion for application {client} is outside of its time",
        "Check that {source} is renewed, and that this machine's clock is right",
        secret=True,
    ),
    "50048": Meaning(
        "The subject of the assertion for application {client} does not fit its issuer",
        "Check client_id, and that {source} holds the credential of this application",
        secret=True,
    ),
    **dict.fromkeys(
        ("50006", "900384"),
        Meaning(
            "The signature of the assertion for application {client} is not valid",
            "Check that {source} is whole, and of this application",
            secret=True,
        ),
    ),
    **dict.fromkeys(
        ("50166", "501661", "90061"),
        Meaning(
            "Entra ID could not fetch the keys of the issuer of the assertion in {source}",
            "Check that the issuer's discovery document and keys can be read from the internet",
            permanent=False,
        ),
    ),
    # Certificates and secrets
    **dict.fromkeys(
        ("50012", "50017", "700030"),
        Meaning(
            "Entra ID does not trust the certificate of application {client}",
            "Check its subject, its issuer and send_certificate_chain; or upload the certificate "
            "in {source} to the application",
            secret=True,
        ),
    ),
    "50032": Meaning(
        "The RSA key of the certificate in {source} is too weak",
        "Make a certificate with at least 2048 bits",
        secret=True,
    ),
    "70002": Meaning(
        "Entra ID refuses the credential of application {client}",
        "Check that {source} belongs to client_id, and is still valid",
        secret=True,
    ),
    "700025": Meaning(
        "Application {client} is a public client, which has no credential",
        "Register a confidential client (platform Web), and use its client_id",
    ),
    # Applications and their rights
    **dict.fromkeys(
        ("70001", "700011"),
        Meaning(
            "Application {client} was not found in tenant {tenant}, or is disabled",
            "Check client_id and tenant_id, or have the application enabled in that tenant",
        ),
    ),
    "1000031": Meaning("Application {client} cannot be used now", f"{_ASK} to enable it"),
    **dict.fromkeys(
        ("65001", "90008", "90094", "90099"),
        Meaning(
            "Tenant {tenant} has not consented to application {client}",
            f"{_ASK} to grant admin consent",
        ),
    ),
    **dict.fromkeys(
        ("65005", "650054", "650056", "50001"),
        Meaning(
            "The service of scope {scope} is not available to application {client}",
            "Remove scope, so that cloud chooses it",
        ),
    ),
    "650052": Meaning(
        "Tenant {tenant} has not enabled the service of scope {scope}",
        "Set cloud, which chooses the right scope; or correct scope",
    ),
    "50105": Meaning("The account is not assigned to application {client}", f"{_ASK} to assign it"),
    # Tenants and clouds
    **dict.fromkeys(
        ("50059", "50128", "90019"),
        Meaning("Tenant {tenant} is not known", "Give the directory id as tenant_id"),
    ),
    **dict.fromkeys(
        ("50194", "90130", "9001023", "90124"),
        Meaning(
            "Application {client} cannot sign in at {tenant}",
            "Set tenant_id to the directory id of the application's own tenant",
        ),
    ),
    **dict.fromkeys(
        ("50002", "500021", "500022"),
        Meaning(
            "The network's proxy does not allow tenant {tenant}",
            "Ask the administrator of the network to add it to the tenant restrictions",
        ),
    ),
    **dict.fromkeys(
        ("500212", "500213"),
        Meaning(
            "A cross-tenant access policy keeps the account out of tenant {tenant}",
            f"{_ASK} to allow it",
        ),
    ),
    **dict.fromkeys(
        ("90051", "900432"),
        Meaning(
            "Application {client} is in another cloud than {authority}",
            "Set cloud to that of the application",
        ),
    ),
    **dict.fromkeys(
        ("28002", "28003", "700022"),
        Meaning("Scope {scope} is not valid", "Remove scope, so that cloud chooses it"),
    ),
    # Policies
    **dict.fromkeys(
        ("50005", "50131", "53000", "53001", "53002", "53011", "530032", "530034", "530035"),
        Meaning(
            "A security policy blocks this sign-in",
            f"{_ASK} to let it sign in from this machine and network",
        ),
    ),
    # Accounts, as the Azure CLI signs in
    "50020": Meaning(
        "The account does not belong to tenant {tenant}", "Check tenant_id; then: az login"
    ),
    "50053": Meaning("The account is locked, or its address is blocked", f"{_ASK} to unlock it"),
    "50055": Meaning("The password has expired", "Set a new one; then: az login"),
    **dict.fromkeys(
        ("50072", "50074", "50078", "50079", "50097", "50158", "53004", "700020"),
        Meaning("The account needs another factor", "Sign in again: az login"),
    ),
    **dict.fromkeys(
        ("50058", "50089", "50132", "50133", "70000", "70008", "70043", "700084"),
        Meaning("The session has ended", "Sign in again: az login"),
    ),
    # Passing
    **dict.fromkeys(
        ("50033", "50087", "90006", "90012", "90024", "90033", "90090", "90091"),
        Meaning("Entra ID is not available just now", "", permanent=False),
    ),
    **dict.fromkeys(
        ("50196", "90055"),
        Meaning("Entra ID saw too many equal requests", "", permanent=False),
    ),
}


def link(code: str) -> str:
    """Return Microsoft's page about a code."""
    return f"https://login.microsoftonline.com/error?code={code}" if code else ""
