"""The resolver `vault`: keys out of a KV version 2 engine of OpenBao or HashiCorp Vault.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, https://openbao.org/api-docs/secret/kv/kv-v2
"""

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.vaults import VaultConfiguration, filled
from lightspeed_azure.errors import ResolverUnavailableError
from lightspeed_azure.keys import Answer, Pass, Question
from lightspeed_azure.keys.location import Places, check_names
from lightspeed_azure.keys.vault_session import Refused, VaultSession

_REFUSED_PAUSE = 10.0
"""Seconds for which a secret that is refused is not asked for again."""


class VaultResolver:
    """Answers with `key` of the secret at `path`; passes where there is no such secret or key.

    Safe for any number of threads. Nothing is sent before the first question.

    Args:
        options: the engine, and how to sign in.
        clock: for the life of the token that a login gave.
    """

    name = "vault"

    def __init__(self, options: VaultConfiguration, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._options = options = VaultConfiguration.from_object(options)
        self._session = VaultSession(options, clock)
        self._places = Places()

    def __repr__(self) -> str:
        return f"VaultResolver(url={self._options.url!r}, mount={self._options.mount!r})"

    def before(self, question: Question) -> Answer | Pass:
        """Read the secret; after a 403 sign in once more.

        Raises:
            ResolverUnavailableError: Vault refuses, is sealed, or cannot be reached.
        """
        check_names(question)
        names = {"provider_id": question.provider_id, "field": question.field}
        path, key = (filled(text, **names) for text in (self._options.path, self._options.key))
        self._places.claim(f"{self._options.mount}/{path}#{key}", question)
        timeout = question.timeout or 5.0
        version = self._options.versions.get(path)
        refused: Refused
        for _ in range(2):
            try:
                secret = self._session.read(path, version, timeout)
            except Refused as error:
                refused = error
                self._session.forget(error)
            else:
                return _answer(secret, f"{self._options.mount}/{path}", key)
        cure = (
            f'its policy needs: path "{self._options.mount}/data/{path}" {{capabilities=["read"]}}'
        )
        text = f"{refused}; {cure}"
        raise ResolverUnavailableError(text, down=False, retry_after=_REFUSED_PAUSE)


def _answer(secret: dict[str, object] | None, place: str, key: str) -> Answer | Pass:
    if secret is None:
        return Pass(f"Vault has no secret {place}, in which the key {key} would be")
    value = secret.get(key)
    if value is None:
        return Pass(f"the secret {place} in Vault has no key {key}")
    # `vault kv put … key=@file` keeps the line break at the file's end.
    return Answer(value.strip("\r\n") if isinstance(value, str) else value)
