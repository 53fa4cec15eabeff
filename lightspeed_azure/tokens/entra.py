"""From a configuration to tokens, through azure-identity's synchronous credentials.

Each kind of credential either keeps its credential object or builds a new one for each token
(`CredentialKind.is_kept`). A new object reads rotated files and bypasses the caches of
azure-identity and MSAL: MSAL repeats an HTTP 400 for 60 s, and azure-identity reads an assertion
again only every 600 s. Nothing is retried here; the token cache does that.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import SecretBytes, SecretStr

from lightspeed_azure.concurrency.fork import ForkLock, interrupted_imports, reset_in_child
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.errors import (
    CredentialRejectedError,
    InvalidConfigurationError,
    LightspeedAzureError,
)
from lightspeed_azure.tokens.azure_credential import (
    Credential,
    ask,
    close,
    import_azure,
    new_credential,
)
from lightspeed_azure.tokens.exchange import Exchange, digest
from lightspeed_azure.tokens.failures import Failure
from lightspeed_azure.tokens.source import Attempt, IssuedToken

_LOG = logging.getLogger(__name__)


class UnusableCredentialError(CredentialRejectedError, InvalidConfigurationError):
    """What is configured is not a credential: its file was never valid, or its factory fails.

    A caller that waits for a token gets a permanent `TokenError`; a caller that checks the
    configuration gets an `InvalidConfigurationError`.
    """


class _KnownToken(NamedTuple):
    """The lifetime of a token that a credential may return again from its own cache."""

    digest: str
    wall: float
    monotonic: float
    expires_in: float

    def remaining(self, wall: float, monotonic: float) -> float:
        """Return the seconds left, by the clock that has advanced more; either can be wrong."""
        return self.expires_in - max(wall - self.wall, monotonic - self.monotonic)


def credential_source(
    config: AzureEntraIdConfiguration,
    *,
    scope: str | None = None,
    clock: Callable[[], float] = time.time,
) -> "CredentialSource":
    """Return the source of one identity's tokens; cheap, and imports no Azure library.

    Args:
        config: the identity.
        scope: what the tokens are for; None for the identity's default scope.
        clock: POSIX seconds.
    """
    source = CredentialSource(config, scope=scope, clock=clock)
    _LOG.info("Tokens come from %s", source.describe())
    return source


class CredentialSource:
    """Asks for tokens as one identity; a `TokenSource`, safe to call from several threads.

    Args:
        config: the identity.
        scope: what the tokens are for; None for the identity's default scope.
        clock: POSIX seconds, the clock that azure-identity reads too.
        monotonic: seconds.

    Attributes:
        kind: how the identity signs in, such as "client_secret".
        scope: what the tokens are for.
    """

    def __init__(
        self,
        config: AzureEntraIdConfiguration,
        *,
        scope: str | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = config.credential_kind
        self.scope = scope or config.default_scope
        self._config = config
        self._kind = config.kind
        self._clock = clock
        self._monotonic = monotonic
        self._file = config.secret_file()
        self._lock = ForkLock()  # guards the next one; never held while a credential is made
        self._kept: Credential | None = None
        self._parents: list[Credential] = []  # not closed: the parent process uses them
        self._accepted: SecretBytes | None = None
        self._known: _KnownToken | None = None
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"<CredentialSource {self.describe()}>"

    def describe(self) -> str:
        """Return which identity this is and how it signs in, for the log; without secrets."""
        label = self._file.label if self._file else self.kind
        how = self._kind.description.format(label=label, config=self._config)
        return f"{how}, for {self.scope}"

    def fingerprint(self) -> object:
        """Return a value that differs when the credential's file has changed."""
        return self._file.fingerprint() if self._file else None

    def hang(self) -> tuple[str, str] | None:
        """Return why a call may not return, and the cure; None when only the network can be why."""
        hang = self._kind.hang(self._config, self._kept is not None)
        if hang is None and "azure.identity" in interrupted_imports():
            what = "this process was forked while azure-identity was being imported"
            hang = what, "Restart it; fork later, or call set_config() after the fork"
        return hang

    def after_fork(self) -> None:
        """Make another credential in a forked child: the parent uses the connections of this one."""
        if self._kept is not None:
            self._parents.append(self._kept)
            self._kept = None

    def close(self) -> None:
        """Close the connections of a credential that is kept; the next call makes another."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            close(kept)

    def warm_up(self) -> None:
        """Import azure.identity (0.8 s) in a daemon thread; returns at once."""
        with contextlib.suppress(RuntimeError):  # no thread is free: the first flight imports it
            threading.Thread(
                target=import_azure, name="lightspeed-azure-import", daemon=True
            ).start()

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Ask for a token; may block, about `attempt.timeout` seconds.

        Raises:
            TokenUnavailableError: passing; `retry_after` when the service said so.
            CredentialRejectedError: permanent until the credential changes.
            UnusableCredentialError: the credential's file never was good, or the factory fails.
        """
        try:
            return self._sign_in(attempt)
        except InvalidConfigurationError as error:
            unusable = UnusableCredentialError(str(error))
        raise unusable

    def _sign_in(self, attempt: Attempt) -> IssuedToken:
        exchange = Exchange(
            attempt.timeout,
            # An endpoint on this machine answers at once, or does not exist.
            connect_timeout=2.0 if self._kind.endpoint else None,
            clock=self._clock,
            monotonic=self._monotonic,
        )
        if self._file is None:
            return self._ask_again(attempt, exchange)
        content = SecretBytes(self._file.read_bytes())
        outcome = self._try(content, exchange)
        if isinstance(outcome, Failure) and outcome.is_refusal_of_secret():
            outcome, content = self._try_other(outcome, content, exchange)
        if isinstance(outcome, Failure):
            raise outcome.to_error(detail=self._detail(content))
        self._accepted = content
        return outcome

    def _try_other(
        self, refused: Failure, content: SecretBytes, exchange: Exchange
    ) -> "tuple[IssuedToken | Failure, SecretBytes]":
        """After a refusal, try what the file holds by now, else what was accepted before."""
        file = self._file
        assert file is not None  # noqa: S101 - for the type checker: only files are tried again
        newer = SecretBytes(file.read_bytes())
        if newer != content:
            _LOG.info("%s changed while Entra ID was asked; trying again", file.key)
            return self._try(newer, exchange), newer
        if self._accepted is None or self._accepted == content:
            return refused, content
        outcome = self._try(self._accepted, exchange)
        if isinstance(outcome, Failure):
            return refused, content
        _LOG.warning(
            "%s: the previous value is still in use, for Entra ID refuses the new one: %s",
            file.key,
            refused.to_error(detail=self._detail(content)),
        )
        return outcome, self._accepted

    def _ask_again(self, attempt: Attempt, exchange: Exchange) -> IssuedToken:
        """Ask; once more with a new credential if this one repeats the token of the cache."""
        outcome = self._try(None, exchange)
        if isinstance(outcome, Failure):
            raise outcome.to_error()
        cached = self._kind.replays and not exchange.requests
        if cached and attempt.previous == outcome.secret:
            self.close()
            again = self._try(None, exchange)
            outcome = again if isinstance(again, IssuedToken) else outcome
        return outcome

    def _try(self, content: SecretBytes | None, exchange: Exchange) -> IssuedToken | Failure:
        """Ask once; every failure is returned, so that no traceback keeps a secret."""
        try:
            with exchange.watching():
                if self._config.ca_bundle:  # azure-identity would log its path
                    self._config.ca_bundle.stat()
                started = self._clock()
                return self._issued(self._ask(content, exchange), started, exchange)
        except LightspeedAzureError:
            raise
        except Exception as error:  # noqa: BLE001 - foreign credentials raise anything
            if self._kind.replays:
                self.close()
            return Failure(self._config, self.scope, exchange, error)

    def _issued(self, token: Any, started: float, exchange: Exchange) -> IssuedToken:
        """Return a token with what remains of it, by the issuer's own account where there is one.

        Args:
            token: azure-core's AccessToken or AccessTokenInfo.
            started: POSIX seconds when it was asked for.
            exchange: what went over the wire.
        """
        text = str(token.token)
        lifetime = exchange.lifetime_of(text)
        if lifetime:
            expires_in = lifetime.expires_in
            self._known = _KnownToken(digest(text), started, self._monotonic(), expires_in)
        elif self._known and self._known.digest == digest(text):
            expires_in = self._known.remaining(started, self._monotonic())
        else:
            expires_in = token.expires_on - started
        refresh_in = lifetime.refresh_in if lifetime else None
        refresh_on = getattr(token, "refresh_on", None)
        if refresh_in is None and refresh_on is not None:
            refresh_in = refresh_on - started
        return IssuedToken(SecretStr(text), float(expires_in), refresh_in)

    def _ask(self, content: SecretBytes | None, exchange: Exchange) -> Any:
        """Ask a credential for a token: the kept one, or a new one."""
        if self._kind.is_kept:
            return ask(self._kept_credential(content, exchange), self.scope)
        credential = new_credential(self._config, content, timeout=exchange.remaining)
        try:
            return ask(credential, self.scope)
        finally:
            close(credential)

    def _kept_credential(self, content: SecretBytes | None, exchange: Exchange) -> Credential:
        """Return the credential that is kept; build it if there is none."""
        with self._lock:
            kept = self._kept
        if kept is not None:
            return kept
        made = new_credential(self._config, content, timeout=exchange.remaining)
        with self._lock:
            kept = self._kept = self._kept or made
        if kept is not made:  # another flight was faster
            close(made)
        return kept

    def _detail(self, content: SecretBytes) -> str:
        """Return what the file says about a refusal."""
        return self._kind.detail(self._config, content.get_secret_value(), self._clock())
