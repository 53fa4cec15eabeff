"""From a configuration to tokens, through azure-identity's synchronous credentials.

For a client secret, a certificate and a federated assertion each renewal builds the credential
anew: that reads rotated files, and bypasses the caches of azure-identity and MSAL (MSAL replays
an HTTP 400 for 60 s, azure-identity reads an assertion again only every 600 s). Managed identity,
`default` and foreign credentials keep their object. Nothing is retried inside: the cache does that.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from pydantic import SecretBytes, SecretStr

from lightspeed_azure.concurrency.fork import (
    ForkLock,
    importing,
    interrupted_imports,
    reset_in_child,
)
from lightspeed_azure.config.certificate import expiry
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.files import secret_file
from lightspeed_azure.errors import InvalidConfigurationError, LightspeedAzureError
from lightspeed_azure.tokens.azure_credential import (
    Credential,
    ask,
    close,
    import_azure,
    kept_credential,
    new_credential,
)
from lightspeed_azure.tokens.exchange import Exchange, digest
from lightspeed_azure.tokens.failures import Failure
from lightspeed_azure.tokens.foreign_credential import ForeignCredential
from lightspeed_azure.tokens.known_token import KnownToken
from lightspeed_azure.tokens.source import Attempt, IssuedToken
from lightspeed_azure.tokens.unusable import UnusableCredentialError

_LOG = logging.getLogger(__name__)


def credential_source(
    config: AzureEntraIdConfiguration, *, clock: Callable[[], float] = time.time
) -> "CredentialSource":
    """Return the source of one identity's tokens; cheap, and imports no Azure library.

    Args:
        config: the identity.
        clock: POSIX seconds.
    """
    source = CredentialSource(config, clock=clock)
    _LOG.info("Tokens come from %s", source.describe())
    return source


class CredentialSource:
    """Asks for tokens as one identity; a `TokenSource`, safe to call from several threads.

    Args:
        config: the identity.
        clock: POSIX seconds, the clock that azure-identity reads too.
        monotonic: seconds.

    Attributes:
        kind: how the identity signs in, such as "client_secret".
    """

    def __init__(
        self,
        config: AzureEntraIdConfiguration,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = config.credential_kind
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._file = secret_file(config)
        self._foreign = ForeignCredential(config.credential) if config.credential else None
        self._lock = ForkLock()  # guards the next one; never held while a credential is made
        self._kept: Credential | None = None
        self._parents: list[Credential] = []  # not closed: the parent process uses them
        self._accepted: SecretBytes | None = None
        self._known: KnownToken | None = None
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"<CredentialSource {self.describe()}>"

    def describe(self) -> str:
        """Return which identity this is and how it signs in, for the log; without secrets."""
        config = self._config
        how = {
            "managed_identity": f"managed identity ({config.managed_identity})",
            "credential": f"credential {config.credential}",
            "azure_cli": "the Azure CLI",
            "default": "azure-identity's default chain",
        }.get(self.kind)
        if how is None:
            source = self._file.label if self._file else self.kind
            how = f"{source}, application {config.client_id}, tenant {config.tenant_id}"
            how += f", at {config.authority_host}"
        return f"{how}, for {config.scope}"

    def fingerprint(self) -> object:
        """Return a value that differs when the credential's file has changed."""
        return self._file.fingerprint() if self._file else None

    def hang(self) -> tuple[str, str] | None:
        """Return why a call may not return, and the cure; None when only the network can be why."""
        if self._foreign:
            return self._foreign.hang()
        if "azure.identity" in interrupted_imports():
            what = "this process was forked while azure-identity was being imported"
            return what, "Restart it; fork later, or call set_config() after the fork"
        return None

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
            # The endpoint is on the same machine: where nobody answers at once, there is none.
            connect_timeout=2.0 if self.kind == "managed_identity" else None,
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
        """Ask; once more past its own cache when a managed identity gives the token we have."""
        outcome = self._try(None, exchange)
        if isinstance(outcome, Failure):
            raise outcome.to_error()
        cached = self.kind == "managed_identity" and not exchange.requests
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
            if self.kind == "managed_identity":
                self.close()  # MSAL would replay the refusal
            return Failure(self._config, exchange, error)

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
            self._known = KnownToken(digest(text), started, self._monotonic(), expires_in)
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
        """Ask azure-identity for a token: a new credential, or the kept one."""
        if content is None and self.kind not in ("client_secret", "azure_cli"):
            return ask(self._kept_credential(), self._config.scope)
        with importing("azure.identity"):  # its constructors import, and use no network
            credential = new_credential(self._config, content, timeout=exchange.remaining)
        try:
            return ask(credential, self._config.scope)
        finally:
            close(credential)

    def _kept_credential(self) -> Credential:
        """Return the credential that is kept, after making it if there is none."""
        with self._lock:
            kept = self._kept
        if kept is not None:
            return kept
        made: Credential
        if self._foreign:
            made = self._foreign.make()
        else:
            with importing("azure.identity"):  # likewise
                made = kept_credential(self._config)
        with self._lock:
            kept = self._kept = self._kept or made
        if kept is not made:  # another flight was faster
            close(made)
        return kept

    def _detail(self, content: SecretBytes) -> str:
        """Return when the certificate ended, if it has."""
        if self.kind != "certificate":
            return ""
        try:
            end = expiry(content.get_secret_value(), self._config.certificate_password)
        except ValueError:
            return ""
        return f"it expired on {end:%Y-%m-%d}" if end.timestamp() < self._clock() else ""
