"""A resolver to copy: keys from `pass`, the standard unix password manager.

credential_resolvers:
- name: pass
use: credential_resolver:PassResolver
ttl: 300
options: {folder: lightspeed}
"""

import asyncio

from lightspeed_azure.errors import ResolverUnavailableError
from lightspeed_azure.keys import PASS, Answer, HookCall


class PassResolver:
    """Answers with the first line of `pass show FOLDER/PROVIDER_ID/FIELD`."""

    def __init__(self, folder: str = "lightspeed") -> None:
        self.folder = folder

    async def before(self, call: HookCall) -> object:
        """Answer, pass if there is no such entry, or raise; a plain `def` works too."""
        entry = f"{self.folder}/{call.provider_id}/{call.field}"
        pipe = asyncio.subprocess.PIPE
        command = await asyncio.create_subprocess_exec(
            "pass", "show", entry, stdout=pipe, stderr=pipe
        )
        output, said = await command.communicate()
        if b"is not in the password store" in said:
            return PASS
        if command.returncode:
            raise ResolverUnavailableError("pass cannot decrypt; is the gpg agent unlocked?")
        return Answer(output.decode().partition("\n")[0])
