"""From a configuration to tokens, through azure-identity; we write no OAuth of our own.

`source.py` asks, and is what the token cache calls; `azure_credential.py` builds azure-identity's
credentials and is the only file that imports it; `foreign_credential.py` loads somebody else's;
`exchange.py` sees what went over the wire; `failures.py` and `aadsts.py` turn a failure into a
typed error that tells the cure.
"""

from lightspeed_azure.credentials.source import CredentialSource, credential_source

__all__ = ["CredentialSource", "credential_source"]
