"""The documents by which clients find their way around Entra ID.

OpenID Connect Discovery 1.0: https://openid.net/specs/openid-connect-discovery-1_0.html
"""

from collections.abc import Mapping


def configuration(authority: str, tenant: str) -> dict[str, object]:
    """Return a tenant's OpenID configuration; MSAL reads it before its first token request."""
    base = f"{authority}/{tenant}"
    return {
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": f"{base}/v2.0",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
        "tenant_region_scope": None,
        "cloud_instance_name": "microsoftonline.com",
    }


def instance(authority: str, query: Mapping[str, str], default_tenant: str) -> dict[str, object]:
    """Return the instance metadata: which hosts are the same cloud.

    MSAL asks ``login.microsoftonline.com`` for it, whatever authority it was given, unless the
    authority is one of Microsoft's own hosts: with azure-identity set
    ``disable_instance_discovery=True`` here, as for any private authority.
    """
    host = authority.removeprefix("https://")
    asked = query.get("authorization_endpoint", "").removeprefix(authority)
    tenant = asked.strip("/").split("/")[0] or default_tenant
    return {
        "tenant_discovery_endpoint": f"{authority}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }
