"""The resolver `vault`: keys from a KV version 2 engine of OpenBao or HashiCorp Vault.

The only file that imports hvac.
https://developer.hashicorp.com/vault/api-docs/auth/kubernetes, …/auth/token
https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, https://openbao.org/api-docs/secret/kv/kv-v2
"""

import contextlib
import importlib.util
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.fork import ForkLock, importing, reset_in_child
from lightspeed_azure.config.vaults import VaultConfiguration, filled
from lightspeed_azure.errors import InvalidConfigurationError, ResolverUnavailableError
from lightspeed_azure.keys.hook_call import Answer, HookCall, Pass
from lightspeed_azure.keys.location import Places, names_in
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.secrets import SecretFile

_logger = logging.getLogger("lightspeed_azure.keys.vault")

_LEAST_LEFT = 5.0
"""Seconds of life that a token needs to be used."""

_SHORTEST = 0.05
"""Seconds that an exchange is given at least."""

_FORBIDDEN_PAUSE = 10.0
"""Seconds for which a forbidden secret is not asked for again."""

_NOT_VAULT = "what answers does not speak as Vault does; does url lead to its active node?"


class _Forbidden(Exception):  # noqa: N818 - never leaves this file
    """Vault answers 403: the token has ended, or its policy does not allow this.

    Attributes:
        token: the token that was sent.
    """

    def __init__(self, text: str, token: "_Token | None") -> None:
        super().__init__(text)
        self.token = token


class _Token:
    """A token with its lifetime in monotonic seconds; None: no end is known."""

    def __init__(self, secret: SecretStr, lease: float, now: float, *, renewable: bool) -> None:
        self.secret = secret
        self.renewable = renewable and lease > 0
        self.ends = now + lease if lease > 0 else None
        self.renew_from = now + lease / 2 if lease > 0 else None


class VaultSession:
    """Signs in, renews its token at half of its lifetime, and reads. Safe for any number of threads.

    No request is sent under a lock: of several threads that need a token one signs in, and the
    others wait, each until its own deadline.

    Args:
        options: where, and how to sign in.
        clock: for the lifetime of a token.
    """

    def __init__(self, options: VaultConfiguration, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._lock = ForkLock()  # guards the next three
        self._token: _Token | None = None
        self._sign_in: Future[_Token] | None = None
        self._session: Any = None
        self._parents: list[Any] = []  # not closed: the parent uses their connections
        reset_in_child(self)
        kubernetes, path = options.kubernetes, options.token_path
        key = "kubernetes.token_path" if kubernetes else "token_path"
        place = kubernetes.token_path if kubernetes else path
        self._file = SecretFile(place, default_name="token", key=key) if place else None

    def __repr__(self) -> str:
        return f"VaultSession({self._options.url!r})"

    def after_fork(self) -> None:
        """Open new connections in a forked child; the token is still valid."""
        self._sign_in = None  # its thread is the parent's
        if self._session is not None:
            self._parents.append(self._session)
            self._session = None

    def read(self, path: str, version: int | None, timeout: float) -> dict[str, Any] | None:
        """Return the keys and values of a secret, or None if it (or its version) does not exist.

        Args:
            path: the secret, below the mount.
            version: which version; None for the newest.
            timeout: seconds in all.

        Raises:
            _Forbidden: the token is not accepted, or not for this path.
            ResolverUnavailableError: Vault is sealed, overloaded, or cannot be reached.
        """
        ends = time.monotonic() + timeout
        token = self._signed_in(ends)
        client = self._client(token.secret, ends - time.monotonic())
        from hvac import exceptions  # noqa: PLC0415 - 0.3 s, on the resolver's own thread

        with self._translated(token):
            try:
                answer = client.secrets.kv.v2.read_secret_version(
                    path=path,
                    version=version,
                    mount_point=self._options.mount,
                    raise_on_deleted_version=True,
                )
            except exceptions.InvalidPath:
                return None
        data = answer["data"]["data"] if isinstance(answer, dict) else None
        if not isinstance(data, dict):
            text = (
                "Vault answers with something else than a secret; does url lead to its active node?"
            )
            raise ResolverUnavailableError(text)
        return data

    def invalidate(self, token: _Token | None) -> None:
        """Sign in again before the next read, unless another thread has done so since."""
        with self._lock:
            if self._token is token:
                self._token = None

    def _signed_in(self, ends: float) -> _Token:
        """Return a valid token; `ends` is a time of `time.monotonic`."""
        with self._lock:
            token, pending = self._usable(), self._sign_in
            is_due = token is None or self._is_renewal_due(token)
            if token is not None and (pending or not is_due):
                return token
            mine = None
            if pending is None:
                mine = pending = self._sign_in = Future()
        if mine is None:
            try:
                return pending.result(max(0.0, ends - time.monotonic()))
            except TimeoutError:
                raise self._unreachable(TimeoutError()) from None
        try:
            fresh = self._renewed(token, ends) if token else None
            fresh = fresh or self._login(ends)
        except BaseException as error:
            with self._lock:
                self._sign_in = None
            mine.set_exception(error)
            raise
        with self._lock:
            self._token, self._sign_in = fresh, None
        mine.set_result(fresh)
        return fresh

    def _usable(self) -> _Token | None:
        """Return the token if it is valid, and still the one in the file."""
        token = self._token
        if token is None or (self._options.token_path and token.secret != self._read_file()):
            return None
        is_ending = token.ends is not None and token.ends - self._clock.monotonic() < _LEAST_LEFT
        return None if is_ending else token

    def _is_renewal_due(self, token: _Token) -> bool:
        due = token.renew_from if token.renewable else None
        return due is not None and self._clock.monotonic() >= due

    def _client(self, secret: SecretStr | None, timeout: float) -> Any:
        """Return a client with this token; all clients share their connections."""
        if importlib.util.find_spec("hvac") is None:
            text = "hvac is not installed: pip install 'lightspeed-azure[vault]'"
            raise InvalidConfigurationError(text)
        with importing("hvac"):
            import hvac  # noqa: PLC0415 - 0.3 s

        from lightspeed_azure.keys.bounded_adapter import bounded_session  # noqa: PLC0415

        options = self._options
        with self._lock:
            if self._session is None:
                self._session = bounded_session()
                self._session.verify = str(options.ca_bundle) if options.ca_bundle else True
        return hvac.Client(
            url=options.url,
            token=secret.get_secret_value() if secret else "",
            namespace=options.namespace,
            verify=self._session.verify,
            timeout=max(timeout, _SHORTEST),
            session=self._session,
            # requests would send X-Vault-Token to the target of a redirect.
            allow_redirects=False,
        )

    def _login(self, ends: float) -> _Token:
        """Return a token: the configured one, or one from a login."""
        kubernetes = self._options.kubernetes
        now = self._clock.monotonic()
        if not kubernetes:
            return self._looked_up(self._options.token or self._read_file(), now, ends)
        jwt = self._read_file()
        client = self._client(None, ends - time.monotonic())
        try:
            with self._translated(is_login=True):
                answer = client.auth.kubernetes.login(
                    role=kubernetes.role,
                    jwt=jwt.get_secret_value(),
                    use_token=False,
                    mount_point=kubernetes.mount,
                )
        except _Forbidden:
            text = "Vault refuses the Kubernetes login; check role, mount and the token's audience"
            raise ResolverUnavailableError(text) from None
        _logger.info("Signed in to Vault at %s as role %s", self._options.url, kubernetes.role)
        return _of_auth(answer, now)

    def _looked_up(self, secret: SecretStr, now: float, ends: float) -> _Token:
        """Return a given token with its lifetime; a policy may forbid to look it up."""
        client = self._client(secret, ends - time.monotonic())
        data: dict[str, Any] = {}
        with contextlib.suppress(_Forbidden), self._translated():
            data = client.auth.token.lookup_self()["data"]
        lease = float(data.get("ttl") or 0)
        return _Token(secret, lease, now, renewable=bool(data.get("renewable")))

    def _renewed(self, token: _Token, ends: float) -> _Token | None:
        """Return the renewed token, or None where a login is better."""
        now = self._clock.monotonic()
        # The token is still valid, so half of the time is kept for the read.
        client = self._client(token.secret, (ends - time.monotonic()) / 2)
        try:
            with self._translated():
                return _of_auth(client.auth.token.renew_self(), now)
        except (_Forbidden, ResolverUnavailableError):
            if self._options.kubernetes:
                return None
            # It is still valid; the read shows whether Vault can be reached.
            token.renewable = False
            return token

    def _read_file(self) -> SecretStr:
        assert self._file is not None  # noqa: S101 - for the type checker
        return self._file.read()

    @contextlib.contextmanager
    def _translated(self, token: _Token | None = None, *, is_login: bool = False) -> Iterator[None]:
        """Translate the errors of hvac and requests: their texts contain URLs, and may contain more.

        `hvac.exceptions.InvalidPath` of a read passes unchanged.
        """
        import requests  # noqa: PLC0415 - hvac brings it
        from hvac import exceptions  # noqa: PLC0415 - 0.3 s

        forbidden = [exceptions.Forbidden, exceptions.Unauthorized]
        if is_login:  # so Vault answers for a mount or a role that does not exist
            forbidden += [exceptions.InvalidPath, exceptions.InvalidRequest]
        error: Exception
        try:
            yield
        except tuple(forbidden):
            error = _Forbidden("Vault refuses (403)", token)
        except exceptions.InvalidPath:
            raise
        except exceptions.RateLimitExceeded:
            error = ResolverUnavailableError("Vault has too many requests (429)", retry_after=1.0)
        except exceptions.VaultDown:
            error = ResolverUnavailableError("Vault is sealed or down (503); unseal it")
        except exceptions.VaultError as fault:
            error = ResolverUnavailableError(f"Vault answers with {type(fault).__name__}")
        except requests.exceptions.RequestException as fault:
            error = self._unreachable(fault)
        except (KeyError, TypeError, ValueError):
            error = ResolverUnavailableError(_NOT_VAULT)
        else:
            return
        raise error from None

    def _unreachable(self, fault: Exception) -> ResolverUnavailableError:
        failure = network_failure(fault)
        if failure is None:
            return ResolverUnavailableError(f"Vault's client raised {type(fault).__name__}")
        text = f"Vault cannot be reached at {shown(self._options.url)}: {failure.words}"
        cure = failure.cure(url_key="url", ca_key="ca_bundle")
        return ResolverUnavailableError(f"{text}. {cure}")


def _of_auth(answer: Any, now: float) -> _Token:
    auth = answer["auth"]
    return _Token(
        SecretStr(auth["client_token"]),
        float(auth["lease_duration"]),
        now,
        renewable=bool(auth["renewable"]),
    )


class VaultResolver:
    """Answers with `key` of the secret at `path`; passes if there is no such secret or key.

    Safe for any number of threads. Sends nothing before the first call.

    Args:
        options: the engine, and how to sign in.
        clock: for the lifetime of the token of a login.
    """

    name = "vault"

    def __init__(self, options: VaultConfiguration, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._options = options = VaultConfiguration.from_object(options)
        self._session = VaultSession(options, clock)
        self._places = Places()

    def __repr__(self) -> str:
        return f"VaultResolver(url={self._options.url!r}, mount={self._options.mount!r})"

    def before(self, call: HookCall) -> Answer | Pass:
        """Read the secret; after a 403 sign in once more.

        Raises:
            ResolverUnavailableError: Vault refuses, is sealed, or cannot be reached.
        """
        names = names_in(call)
        path, key = (filled(text, **names) for text in (self._options.path, self._options.key))
        place = f"{self._options.mount}/{path}"
        self._places.claim(f"{place}#{key}", call)
        version = self._options.versions.get(path)
        for _ in range(2):
            try:
                secret = self._session.read(path, version, call.timeout or 5.0)
            except _Forbidden as error:
                refusal = str(error)
                self._session.invalidate(error.token)
            else:
                return _answer(secret, place, key)
        needed = f'path "{self._options.mount}/data/{path}" {{capabilities=["read"]}}'
        text = f"{refusal}; its policy needs: {needed}"
        raise ResolverUnavailableError(text, down=False, retry_after=_FORBIDDEN_PAUSE)


def _answer(secret: dict[str, object] | None, place: str, key: str) -> Answer | Pass:
    if secret is None:
        return Pass(f"Vault has no secret {place}, in which the key {key} would be")
    value = secret.get(key)
    if value is None:
        return Pass(f"the secret {place} in Vault has no key {key}")
    # `vault kv put … key=@file` keeps the line break at the file's end.
    return Answer(value.strip("\r\n") if isinstance(value, str) else value)
