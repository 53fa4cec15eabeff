"""Rotated files are used at the next sign-in, and a bad file never replaces a good one."""

import itertools
import logging
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entra_material import Certificate, assertion
from kubernetes_volume import KubernetesVolume
from pydantic import SecretStr
from rotating import ROTATIONS, SecretRotation
from signing_in import (
    attempt,
    configured,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import CredentialRejectedError, InvalidConfigurationError
from lightspeed_azure.tokens.entra import CredentialSource, credential_source

pytestmark = pytest.mark.integration


class Mounted:
    """A credential in a mounted volume, and the source that signs in with it."""

    def __init__(
        self, emu: Emulators, kind: type[SecretRotation], folder: Path, **more: Any
    ) -> None:
        self.kind = kind(emu)
        self.volume = KubernetesVolume(folder / "volume", **{kind.name: self.kind.good()})
        block: dict[str, Any] = {kind.key: self.volume.path}
        self.source = CredentialSource(configured(emu, **block), **more)

    def swap(self, content: bytes) -> None:
        """Do what the kubelet does."""
        self.volume.swap(**{self.kind.name: content})


@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_rotated_file_is_used_at_the_next_sign_in(
    emu: Emulators, kind: type[SecretRotation], tmp_path: Path
) -> None:
    """No restart, no watcher, and no request with the old one."""
    mounted = Mounted(emu, kind, tmp_path)
    mounted.source(attempt())
    before = mounted.source.fingerprint()
    mounted.swap(mounted.kind.rotate())
    assert mounted.source.fingerprint() != before
    mounted.source(attempt())
    assert emu.entra.requests.by_outcome == {"200": 2}


@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_half_written_file_keeps_the_last_good_one(
    emu: Emulators, kind: type[SecretRotation], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It signs in all the same, and warns."""
    mounted = Mounted(emu, kind, tmp_path)
    mounted.source(attempt())
    mounted.swap(mounted.kind.half())
    mounted.source(attempt())
    assert emu.entra.requests.by_outcome == {"200": 2}
    assert "The last good value stays in use" in caplog.text


@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_refused_credential_that_has_changed_is_tried_again_at_once(
    emu: Emulators, kind: type[SecretRotation], tmp_path: Path
) -> None:
    """Between reading the file and the answer of Entra ID, the kubelet may swap it."""
    readings = itertools.count()
    swap: list[Callable[[], None]] = []

    def monotonic() -> float:
        # Asked when the attempt begins, and again when a request is sent: then it is rotated.
        if next(readings) == 1:
            swap.pop()()
        return time.monotonic()

    mounted = Mounted(emu, kind, tmp_path, monotonic=monotonic)
    swap.append(lambda: mounted.swap(mounted.kind.rotate()))
    mounted.source(attempt())
    outcomes = emu.entra.requests.by_outcome
    assert outcomes["200"] == 1
    assert sum(outcomes.values()) == 2


@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_new_file_that_is_refused_falls_back_on_what_was_accepted(
    emu: Emulators, kind: type[SecretRotation], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A rotation that is ahead of Entra ID, or simply wrong, fails nobody yet, and warns."""
    mounted = Mounted(emu, kind, tmp_path)
    mounted.source(attempt())
    wrong = {
        "client_secret_path": b"not-known-yet",
        "certificate_path": Certificate(2).pem(),
        "federated_token_file": assertion(sub="not known yet").encode(),
    }[kind.key]
    mounted.swap(wrong)
    mounted.source(attempt())
    assert "the previous value is still in use" in caplog.text
    assert "not-known-yet" not in caplog.text


def test_a_secret_that_is_refused_for_good_is_an_error(emu: Emulators, tmp_path: Path) -> None:
    """When neither the new nor the old one is good, what is said is about the new one."""
    mounted = Mounted(emu, SecretRotation, tmp_path)
    mounted.source(attempt())
    mounted.kind.rotate()
    mounted.swap(b"wrong")
    with pytest.raises(CredentialRejectedError, match="in client_secret_path") as caught:
        mounted.source(attempt())
    assert caught.value.code == "AADSTS7000215"


def test_a_file_that_never_was_there_is_a_configuration_error(
    emu: Emulators, tmp_path: Path
) -> None:
    """The first sign-in says so, and the next succeeds when the file has come."""
    file = tmp_path / "client_secret"
    source = credential_source(configured(emu, client_secret_path=file))
    with pytest.raises(InvalidConfigurationError, match="there is no such file"):
        source(attempt())
    file.write_bytes(SecretRotation(emu).good())
    assert source(attempt()).secret


def test_rotating_under_load_fails_no_request(emu: Emulators, tmp_path: Path) -> None:
    """Three threads sign in without a pause while the secret is swapped twenty times.

    Entra ID takes the newest and the one before, as administrators leave it for a while.
    """
    mounted = Mounted(emu, SecretRotation, tmp_path)
    failures: list[BaseException] = []
    counts = [0, 0, 0]
    changed = threading.Condition()
    done = threading.Event()

    def sign_in(number: int) -> None:
        while not done.is_set() and not failures:
            try:
                mounted.source(attempt())
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                failures.append(error)
            with changed:
                counts[number] += 1
                changed.notify()

    threads = [threading.Thread(target=sign_in, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    old = emu.entra.application.client_secret
    for number in range(20):
        new = SecretStr(f"rotated-{number}")
        emu.entra.register(emu.entra.application.replace(secrets=[old, new]))
        mounted.swap(new.get_secret_value().encode())
        old = new
        with changed:
            goal = [count + 1 for count in counts]
            while not failures and any(n < g for n, g in zip(counts, goal, strict=True)):
                changed.wait()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert emu.entra.requests.by_outcome.keys() == {"200"}


def test_secrets_never_reach_the_log(
    emu: Emulators, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do tokens, at our most talkative."""
    caplog.set_level(logging.DEBUG, logger="lightspeed_azure")
    mounted = Mounted(emu, SecretRotation, tmp_path)
    token = mounted.source(attempt()).secret.get_secret_value()
    secret = mounted.kind.good().decode()
    mounted.swap(b"")
    mounted.source(attempt())
    ours = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("lightspeed")
    )
    assert ours
    assert secret not in ours
    assert token not in ours


def test_a_file_that_never_was_there_is_so_for_those_who_wait_too(
    emu: Emulators, tmp_path: Path
) -> None:
    """The manager's error is a permanent one about a token, and one about the configuration."""
    config = configured(emu, client_secret_path=tmp_path / "none")
    manager = AzureEntraIDManager.isolated(config)
    with pytest.raises(InvalidConfigurationError, match="there is no such file") as caught:
        manager.get_token()
    manager.close()
    assert isinstance(caught.value, CredentialRejectedError)
    assert caught.value.problems == (str(caught.value),)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert str(again) == str(caught.value)
