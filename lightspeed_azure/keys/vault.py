"""The resolver `vault`: keys out of a KV version 2 engine of OpenBao or HashiCorp Vault.

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
from lightspeed_azure.config.template import filled
from lightspeed_azure.config.vault import VaultConfiguration
from lightspeed_azure.errors import InvalidConfigurationError, ResolverUnavailableError
from lightspeed_azure.keys import Answer, Pass, Question
from lightspeed_azure.keys.location import Places, check_names
from lightspeed_azure.secret_file import SecretFile

_LOG = logging.getLogger("lightspeed_azure.keys.vault")

_LEAST_LEFT = 5.0
"""Seconds of life that a token needs to be used."""

_SHORTEST = 0.05
"""Seconds that an exchange is given at least."""

_SLOW = "Vault does not answer in time; check url and firewalls"

_NOT_VAULT = "what answers does not speak as Vault does; does url lead to its active node?"


class Refused(Exception):  # noqa: N818 - not an error for anyone outside these files
    """Vault answers 403: the token has ended, or its policy does not allow this.

    Attributes:
        token: with which it was asked.
    """

    token: "_Token | None" = None


class _Token:
    """A token and how long it lasts, in monotonic seconds; None: no end is known."""

    def __init__(self, secret: SecretStr, lease: float, now: float, *, renewable: bool) -> None:
        self.secret = secret
        self.renewable = renewable and lease > 0
        self.ends = now + lease if lease > 0 else None
        self.renew_from = now + lease / 2 if lease > 0 else None


class VaultSession:
    """Signs in when a token is needed, renews it at half of its life; safe for any number of threads.

    The network is never asked under a lock: of several threads that need a token, one signs in and
    the others wait, each until its own deadline.

    Args:
        options: where, and how to sign in.
        clock: monotonic seconds, for the life of a token.
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
        """Open connections of its own in a forked child; the token is still good."""
        self._sign_in = None  # the thread that signs in is the parent's
        if self._session is not None:
            self._parents.append(self._session)
            self._session = None

    def read(self, path: str, version: int | None, timeout: float) -> dict[str, Any] | None:
        """Return the keys and values of a secret, None when there is none (or no such version).

        Args:
            path: the secret, below the mount.
            version: which version; None for the newest.
            timeout: seconds for everything that this needs.

        Raises:
            Refused: the token does not do.
            ResolverUnavailableError: Vault is sealed, overloaded, or cannot be reached.
        """
        ends = time.monotonic() + timeout
        token = self._signed_in(ends)
        client = self._client(token.secret, ends - time.monotonic())
        from hvac import exceptions  # noqa: PLC0415 - 0.3 s, on the resolver's own thread

        with _explained(token):
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

    def forget(self, refused: Refused) -> None:
        """Sign in again before the next read, unless another thread has done so since."""
        with self._lock:
            if self._token is refused.token:
                self._token = None

    def _signed_in(self, ends: float) -> _Token:
        """Return a token that lasts; `ends` is in the seconds of `time.monotonic`."""
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
                raise ResolverUnavailableError(_SLOW) from None
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
        """Return the token if it lasts, and is still the one that the file holds."""
        token = self._token
        if token is None or (self._options.token_path and token.secret != self._read_file()):
            return None
        is_ending = token.ends is not None and token.ends - self._clock.monotonic() < _LEAST_LEFT
        return None if is_ending else token

    def _is_renewal_due(self, token: _Token) -> bool:
        due = token.renew_from if token.renewable else None
        return due is not None and self._clock.monotonic() >= due

    def _client(self, secret: SecretStr | None, timeout: float) -> Any:
        """Return a client with this token; all of them share their connections."""
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
            # requests would carry X-Vault-Token to wherever an answer points.
            allow_redirects=False,
        )

    def _login(self, ends: float) -> _Token:
        """Return a token: the configured one, or that of a login."""
        kubernetes = self._options.kubernetes
        now = self._clock.monotonic()
        if not kubernetes:
            return self._looked_up(self._options.token or self._read_file(), now, ends)
        jwt = self._read_file()
        client = self._client(None, ends - time.monotonic())
        from hvac import exceptions  # noqa: PLC0415 - 0.3 s

        try:
            with _explained(), _refusing(exceptions.InvalidPath, exceptions.InvalidRequest):
                answer = client.auth.kubernetes.login(
                    role=kubernetes.role,
                    jwt=jwt.get_secret_value(),
                    use_token=False,
                    mount_point=kubernetes.mount,
                )
        except Refused:
            text = "Vault refuses the Kubernetes login; check role, mount and the token's audience"
            raise ResolverUnavailableError(text) from None
        _LOG.info("Signed in to Vault at %s as role %s", self._options.url, kubernetes.role)
        return _of_auth(answer, now)

    def _looked_up(self, secret: SecretStr, now: float, ends: float) -> _Token:
        """Return a given token with what Vault says of its life; a policy may forbid to ask."""
        client = self._client(secret, ends - time.monotonic())
        data: dict[str, Any] = {}
        with contextlib.suppress(Refused), _explained():
            data = client.auth.token.lookup_self()["data"]
        lease = float(data.get("ttl") or 0)
        return _Token(secret, lease, now, renewable=bool(data.get("renewable")))

    def _renewed(self, token: _Token, ends: float) -> _Token | None:
        """Return the token with a new life, or None where it cannot have one."""
        now = self._clock.monotonic()
        # Half of the time is kept for the read: the token still lasts.
        client = self._client(token.secret, (ends - time.monotonic()) / 2)
        try:
            with _explained():
                return _of_auth(client.auth.token.renew_self(), now)
        except (Refused, ResolverUnavailableError):
            if self._options.kubernetes:
                return None
            # It still lasts; what it is asked for next tells whether Vault is there.
            token.renewable = False
            return token

    def _read_file(self) -> SecretStr:
        assert self._file is not None  # noqa: S101 - for the type checker
        return self._file.read()


@contextlib.contextmanager
def _refusing(*kinds: type[Exception]) -> Iterator[None]:
    """Turn what a login is answered with for a mount or a role that is not there into a refusal."""
    try:
        yield
    except kinds:
        pass
    else:
        return
    raise Refused("Vault refuses the login")


def _of_auth(answer: Any, now: float) -> _Token:
    auth = answer["auth"]
    return _Token(
        SecretStr(auth["client_token"]),
        float(auth["lease_duration"]),
        now,
        renewable=bool(auth["renewable"]),
    )


@contextlib.contextmanager
def _explained(token: _Token | None = None) -> Iterator[None]:
    """Turn hvac's and requests' errors into ours: their texts hold URLs, and may hold more."""
    import requests  # noqa: PLC0415 - hvac brings it
    from hvac import exceptions  # noqa: PLC0415 - 0.3 s

    error: Any
    try:
        yield
    except exceptions.InvalidPath:
        raise
    except (exceptions.Forbidden, exceptions.Unauthorized):
        error = Refused("Vault refuses (403)")
        error.token = token
    except exceptions.RateLimitExceeded:
        error = ResolverUnavailableError("Vault has too many requests (429)", retry_after=1.0)
    except exceptions.VaultDown:
        error = ResolverUnavailableError("Vault is sealed or down (503); unseal it")
    except exceptions.VaultError as fault:
        error = ResolverUnavailableError(f"Vault answers with {type(fault).__name__}")
    except requests.exceptions.RequestException as fault:
        error = ResolverUnavailableError(_of_transport(type(fault), requests.exceptions))
    except (KeyError, TypeError, ValueError):
        error = ResolverUnavailableError(_NOT_VAULT)
    else:
        return
    raise error from None


def _of_transport(kind: type[Exception], known: Any) -> str:
    if issubclass(kind, known.SSLError):
        return "the certificate of Vault is not trusted; set ca_bundle to its issuer's"
    if issubclass(kind, known.Timeout):
        return _SLOW
    return "Vault cannot be reached; check url, DNS and firewalls"


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
