"""Whoever shows a key of the file is let in, and the file may change at any time."""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inbound_support import clock_now, reason, rejection
from issuer import headers
from kubernetes_volume import KubernetesVolume

from lightspeed_azure.config.inbound import ApiKeysInbound
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import Inbound, InboundStatus, make_inbound
from lightspeed_azure.proxy.inbound.presented import LONGEST
from lightspeed_azure.secrets import SecretFile

ONE, TWO, THREE = "cAn4ry-key-number-one", "cAn4ry-key-number-two", "cAn4ry-key-number-three"


def hashed(key: str) -> str:
    """Return a key as a file may hold it."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """Return a file with two keys, one of them hashed."""
    file = tmp_path / "api_keys"
    file.write_text(f"# the team's\n{ONE}   # of the pipeline\n\n  {hashed(TWO)}\r\n")
    return file


def write(file: Path, content: bytes | None) -> None:
    """Let this be in the file; None removes it."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def made(file: Path, clock: Any = None) -> Inbound:
    """Return what judges keys."""
    config = ApiKeysInbound(api_keys_file=file)
    return make_inbound(config, clock=clock or clock_now())


async def test_a_key_of_the_file_is_let_in(file: Path) -> None:
    """As a bearer token or as Azure's clients send it, whether the file has it or its hash."""
    inbound = made(file)
    await inbound.start()
    for key in (ONE, TWO):
        assert await reason(inbound, headers(f"Bearer {key}")) is None
        assert await reason(inbound, headers(api_key=key)) is None
    assert inbound.status().keys == 2
    await inbound.close()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (headers(f"Bearer {THREE}"), "api_key"),
        (headers(f"Bearer {ONE}x"), "api_key"),
        (headers(f"Bearer {ONE.upper()}"), "api_key"),
        (headers(f"Bearer {hashed(TWO)}"), "api_key"),
        (headers("Bearer #"), "api_key"),
        (headers(f"Basic {ONE}"), "scheme"),
        (headers(), "missing"),
        (headers(f"Bearer {ONE}", f"Bearer {ONE}"), "several"),
        (headers(f"Bearer {ONE}", api_key=ONE), "several"),
        (headers(api_key=THREE), "api_key"),
        (headers(api_key=""), "api_key"),
        (headers(api_key="\udcff"), "api_key"),
        (headers(api_key="a" * (LONGEST + 1)), "too_large"),
        (headers(f"Bearer {ONE},"), "malformed"),
    ],
)
async def test_anything_else_is_not(file: Path, shown: Any, expected: str) -> None:
    """Nor the hash in the place of the key; the answer is 401 with a challenge."""
    inbound = made(file)
    await inbound.start()
    rejected = await rejection(inbound, shown)
    assert rejected is not None
    assert (str(rejected.reason), rejected.status) == (expected, 401)
    assert rejected.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("as_directory", [True, False])
async def test_a_rotated_file_is_seen_within_a_second(tmp_path: Path, as_directory: bool) -> None:
    """The new key is known, the old one no more; Kubernetes swaps the whole directory."""
    volume = KubernetesVolume(tmp_path / "volume", api_keys=ONE)
    clock = clock_now()
    inbound = made(volume.path if as_directory else volume.path / "api_keys", clock)
    await inbound.start()
    assert await reason(inbound, headers(f"Bearer {ONE}")) is None
    volume.swap(api_keys=TWO)
    assert await reason(inbound, headers(f"Bearer {ONE}")) is None
    clock.mono_now += 1
    assert await reason(inbound, headers(f"Bearer {ONE}")) == "api_key"
    assert await reason(inbound, headers(f"Bearer {TWO}")) is None
    assert inbound.status().reloads == 2


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "comments only": (b"# nothing\n\n", "holds no key"),
    "short": (b"# a\nshort\n", "line 2 has less than 16"),
    "two words": (f"{THREE} {THREE}".encode(), "line 1 must be one key"),
    "half a hash": (hashed(THREE)[:-2].encode(), "line 1 must have 64 hex"),
    "binary": (b"\xff" + THREE.encode(), "is not text"),
    "too many": (b"\n".join(f"{n:020}".encode() for n in range(1001)), "more than 1000"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_never_replaces_a_good_one(
    file: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good keys stay, it is said why, and no key is in what is said."""
    caplog.set_level(logging.DEBUG)
    clock = clock_now()
    inbound = made(file, clock)
    await inbound.start()
    content, said = BAD[case]
    write(file, content)
    for _ in range(2):
        clock.mono_now += 1
        assert await reason(inbound, headers(f"Bearer {ONE}")) is None
    assert inbound.status().failures == 2
    assert said in inbound.status().last_error
    assert inbound.status().ready
    assert said in caplog.text
    assert "cAn4ry" not in caplog.text + repr(inbound.status())
    write(file, THREE.encode())
    clock.mono_now += 1
    assert await reason(inbound, headers(f"Bearer {THREE}")) is None
    assert inbound.status().last_error == ""


async def test_who_looks_at_the_status_has_the_file_read(file: Path) -> None:
    """An operator sees what is wrong while nobody calls, and that it is mended; once a second."""
    clock = clock_now()
    inbound = made(file, clock)
    await inbound.start()

    async def looked() -> InboundStatus:
        clock.mono_now += 1
        for _ in range(3):
            inbound.status()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await task
        return inbound.status()

    write(file, b"broken")
    assert (await looked()).last_error
    assert (await looked()).failures == 2
    write(file, TWO.encode())
    mended = await looked()
    assert (mended.last_error, mended.reloads) == ("", 2)


@pytest.mark.parametrize("case", [*BAD, "missing"])
async def test_a_file_that_never_was_good_ends_the_start(file: Path, case: str) -> None:
    """With the key, the file and what is wrong with it."""
    if case == "missing":
        write(file, None)
        said = "there is no such file"
    else:
        content, said = BAD[case]
        write(file, content)
    with pytest.raises(
        InvalidConfigurationError, match=r"proxy\.inbound\.api_keys_file: /"
    ) as caught:
        await made(file).start()
    assert said in str(caught.value)
    assert "cAn4ry" not in str(caught.value)


async def test_every_hash_is_compared(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the first key fits or none, the same work is done, in constant time each."""
    write(file, "\n".join([ONE, TWO, THREE]).encode())
    inbound = made(file)
    await inbound.start()
    compared: list[bytes] = []
    real: Callable[[bytes, bytes], bool] = __import__("hmac").compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr("hmac.compare_digest", compare)
    for key in (ONE, TWO, THREE, "cAn4ry-key-of-nobody"):
        compared.clear()
        await reason(inbound, headers(f"Bearer {key}"))
        assert len(compared) == 3


async def test_a_disk_that_hangs_holds_up_nobody_for_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys at hand decide meanwhile, and the event loop goes on."""
    clock = clock_now()
    inbound = made(file, clock)
    await inbound.start()
    answered = threading.Event()
    returned: list[bytes] = []
    read = SecretFile.read_bytes

    def hang(self: SecretFile) -> bytes:
        answered.wait(20)
        returned.append(read(self))
        return returned[-1]

    monkeypatch.setattr(SecretFile, "read_bytes", hang)
    monkeypatch.setattr("lightspeed_azure.proxy.inbound.api_keys._PATIENCE", 0.01)
    clock.mono_now += 1
    assert await reason(inbound, headers(f"Bearer {ONE}")) is None
    assert await reason(inbound, headers(f"Bearer {THREE}")) == "api_key"
    assert returned == [], "both were answered before the disk was"
    answered.set()
    await inbound.close()
