"""A secret file is read again each time, and only a good value replaces a good value."""

import base64
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from entra_material import Certificate
from kubernetes_volume import KubernetesVolume
from pydantic import SecretStr

from lightspeed_azure.config.certificate import certificate_check
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import SecretFile

CANARY = "cAn4ry"


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """Return a file that holds a secret."""
    file = tmp_path / "client_secret"
    file.write_text(f" {CANARY}\n")
    return file


def value(secret: SecretFile) -> str:
    """Return what the file gives now."""
    return secret.read().get_secret_value()


def test_a_secret_is_trimmed(file: Path) -> None:
    """Editors and `kubectl create secret` leave a line feed at the end."""
    assert value(SecretFile(file)) == CANARY


def test_the_mark_that_windows_editors_write_is_no_part_of_a_secret(file: Path) -> None:
    """A byte order mark in front is left out, and Windows' line end."""
    file.write_bytes(b"\xef\xbb\xbf" + CANARY.encode() + b"\r\n")
    assert value(SecretFile(file)) == CANARY


def test_a_directory_means_the_file_of_the_known_name(file: Path) -> None:
    """Kubernetes mounts a Secret as a directory; the default name of the file is documented."""
    assert value(SecretFile(file.parent)) == CANARY
    file.rename(file.parent / "other")
    assert value(SecretFile(file.parent, default_name="other")) == CANARY


@pytest.mark.parametrize("as_directory", [True, False])
def test_a_kubernetes_swap_is_seen_at_the_next_read(tmp_path: Path, as_directory: bool) -> None:
    """The `..data` link changes, the path does not."""
    volume = KubernetesVolume(tmp_path / "volume", client_secret="one")
    secret = SecretFile(volume.path if as_directory else volume.path / "client_secret")
    before = secret.fingerprint()
    assert value(secret) == "one"
    assert secret.fingerprint() == before
    volume.swap(client_secret="two")
    assert secret.fingerprint() != before
    assert value(secret) == "two"


def test_the_content_decides_and_not_the_time_stamp(file: Path) -> None:
    """A new value with the old size and time stamp is new; an old one with a new stamp is not."""
    secret = SecretFile(file)
    before, stamp = secret.fingerprint(), file.stat().st_mtime_ns
    file.write_text(f" {CANARY[::-1]}\n")
    os.utime(file, ns=(stamp, stamp))
    assert secret.fingerprint() != before
    file.write_text(f"{CANARY}\n\n")
    assert secret.fingerprint() == before


def _missing(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    file.write_text("")


def _blank(file: Path) -> None:
    file.write_text(" \n\t\n")


def _binary(file: Path) -> None:
    file.write_bytes(b"\xff\xfe" + CANARY.encode())


def _nul(file: Path) -> None:
    file.write_bytes(CANARY[:3].encode() + b"\0" * 8)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def _large(file: Path) -> None:
    file.write_text("x" * ((1 << 20) + 1))


FAULTS = [_missing, _empty, _blank, _binary, _nul, _directory, _fifo, _loop, _large]


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_what_is_no_good_never_replaces_what_was_good(
    spoil: Callable[[Path], None], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good value stays, with one warning; when the file is good again, that is said."""
    caplog.set_level(logging.INFO)
    secret = SecretFile(file)
    before = secret.fingerprint()
    assert value(secret) == CANARY
    spoil(file)
    assert [value(secret) for _ in range(3)] == [CANARY] * 3
    assert secret.fingerprint() == before, "nothing new to try"
    assert secret.failures == 3
    assert len(caplog.records) == 1
    assert "last good value stays in use" in caplog.text
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)
    file.write_text("new")
    assert value(secret) == "new"
    assert secret.failures == 3
    assert "is good again" in caplog.records[-1].message
    assert CANARY not in caplog.text


def test_another_fault_is_another_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state is said once, a change of state again."""
    secret = SecretFile(file)
    value(secret)
    for spoil in (_empty, _missing, _missing_again, _empty):
        spoil(file)
        value(secret)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def _missing_again(file: Path) -> None:
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_file_that_never_was_good_is_a_configuration_error(
    spoil: Callable[[Path], None], file: Path
) -> None:
    """There is nothing to fall back on, so the operator is told, without the content."""
    spoil(file)
    with pytest.raises(InvalidConfigurationError, match="client_secret_path: ") as caught:
        SecretFile(file).read()
    assert CANARY not in str(caught.value).replace(str(file), "")


def test_a_secret_in_the_place_of_a_path_is_not_shown() -> None:
    """What does not look like a path could be the secret itself."""
    with pytest.raises(InvalidConfigurationError) as caught:
        SecretFile(CANARY).read()
    assert CANARY not in str(caught.value)


def test_a_check_decides_what_is_whole(file: Path) -> None:
    """What the check refuses counts as half-written."""

    def whole(content: bytes) -> None:
        if not content.endswith(b"."):
            raise ValueError("is not whole; wait")

    file.write_text("whole.")
    secret = SecretFile(file, check=whole)
    assert value(secret) == "whole."
    file.write_text("hal")
    assert value(secret) == "whole."
    file.write_text("new.")
    assert value(secret) == "new."


def test_a_binary_file_is_taken_as_it_is(file: Path) -> None:
    """A PFX file is no text."""
    file.write_bytes(b"\xff\0 \n")
    assert SecretFile(file, binary=True).read_bytes() == b"\xff\0 \n"


def _mountinfo(folder: Path, *points: str) -> Path:
    """Return a list of mounts in the form of /proc/self/mountinfo."""
    listed = folder / "mountinfo"
    lines = [f"{36 + n} 35 98:0 /x {p} rw,noatime - tmpfs tmpfs rw" for n, p in enumerate(points)]
    listed.write_text("\n".join(lines) + "\n")
    return listed


def test_a_sub_path_mount_is_said_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is a mount point is never updated by Kubernetes."""
    secret = SecretFile(file, mountinfo=_mountinfo(file.parent, "/", str(file)))
    value(secret)
    value(secret)
    assert caplog.text.count("subPath") == 1
    assert CANARY not in caplog.text.replace(str(file), "")


def test_a_sub_path_with_a_space_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The list writes white space in octal."""
    file = tmp_path / "my secret"
    file.write_text("s")
    escaped = str(file).replace(" ", "\\040")
    value(SecretFile(file, mountinfo=_mountinfo(tmp_path, escaped)))
    assert "subPath" in caplog.text


def test_a_sub_path_inside_a_directory_is_found(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The key names the directory, the file in it is the mount point."""
    value(SecretFile(file.parent, mountinfo=_mountinfo(file.parent, str(file))))
    assert "subPath" in caplog.text


def test_a_sub_path_is_found_through_a_link(
    file: Path, caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The list of mounts says /run where people write /var/run."""
    link = tmp_path_factory.mktemp("var") / "run"
    link.symlink_to(file.parent)
    value(SecretFile(link / file.name, mountinfo=_mountinfo(file.parent, str(file))))
    assert "subPath" in caplog.text


def test_a_directory_mounted_by_sub_path_is_said(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a directory inside one version of the volume, and stays that."""
    mounts = file.parent / "mountinfo"
    mounts.write_text(f"36 35 0:50 /..2026_11_21_08_00_00.1/a {file.parent} ro - tmpfs tmpfs rw\n")
    value(SecretFile(file.parent, mountinfo=mounts))
    assert "subPath" in caplog.text


def test_a_mounted_directory_is_not_complained_about(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is how Kubernetes updates secrets; nor does a system without the list matter."""
    mounts = _mountinfo(file.parent, str(file.parent))
    value(SecretFile(file, mountinfo=mounts))
    value(SecretFile(file.parent, mountinfo=mounts))
    value(SecretFile(file, mountinfo=file.parent / "none"))
    assert not caplog.records


def test_a_representation_holds_no_secret(file: Path) -> None:
    """Neither before nor after reading."""
    secret = SecretFile(file)
    value(secret)
    assert CANARY not in f"{secret!r} {secret.read()!r}"


def test_a_certificate_whose_chain_breaks_off_is_half_written(tmp_path: Path) -> None:
    """Key and first certificate are whole, but what follows has no end."""
    file = tmp_path / "chain.pem"
    whole = Certificate().pem(chain=[Certificate(1)])
    file.write_bytes(whole)
    secret = SecretFile(file, check=certificate_check(None), binary=True)
    assert secret.read_bytes() == whole
    file.write_bytes(whole[:-100])
    assert secret.read_bytes() == whole
    assert secret.failures == 1


def test_a_blocking_log_handler_does_not_delay_other_readers(tmp_path: Path) -> None:
    """The warning about a file is written outside the lock that every reader takes."""
    entered, accept = threading.Event(), threading.Event()

    class Blocked(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            del record
            entered.set()
            accept.wait(60)

    path = tmp_path / "secret"
    path.write_text("good")
    file = SecretFile(path)
    assert file.read().get_secret_value() == "good"
    path.write_text("")
    handler, logger = Blocked(), logging.getLogger("lightspeed_azure.secrets")
    logger.addHandler(handler)
    try:
        warned = threading.Thread(target=file.read, daemon=True)
        warned.start()
        assert entered.wait(30)
        got: list[str] = []
        reader = threading.Thread(
            target=lambda: got.append(file.read().get_secret_value()), daemon=True
        )
        reader.start()
        reader.join(5)
        assert got == ["good"]
    finally:
        accept.set()
        warned.join(30)
        logger.removeHandler(handler)


def test_a_pfx_in_base64_is_told(tmp_path: Path) -> None:
    """As Key Vault's CSI driver writes it; the same decoded is taken."""
    file = tmp_path / "certificate.pfx"
    pfx = Certificate().pfx("password")
    check = certificate_check(SecretStr("password"))
    secret = SecretFile(file, key="certificate_path", check=check, binary=True)
    for written in (base64.b64encode(pfx), base64.encodebytes(pfx)):
        file.write_bytes(written)
        with pytest.raises(InvalidConfigurationError) as caught:
            secret.read_bytes()
        assert str(caught.value) == (
            f"certificate_path: {file}: is a PFX in Base64, as the Key Vault CSI driver writes it; set "
            "objectEncoding: base64 for this object in the SecretProviderClass, or decode the file"
        )
    file.write_bytes(base64.b64encode(b"no certificate"))
    with pytest.raises(InvalidConfigurationError, match="is not a whole certificate"):
        secret.read_bytes()
    file.write_bytes(pfx)
    assert secret.read_bytes() == pfx
