"""Broken configurations: each gives one clear message, with file, line and key, and no secret."""

from pathlib import Path

import pytest
from broken_configurations import CANARY, CASES, ENVIRON, write_bad_files

from lightspeed_azure.config import configuration_from_mapping, load_configuration
from lightspeed_azure.errors import InvalidConfigurationError


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Return a directory of files that are no good."""
    write_bad_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("text", "line", "key", "words"), CASES)
def test_a_broken_file_gives_one_clear_message(
    text: str, line: int, key: str, words: str, folder: Path
) -> None:
    """One problem: one line with file, line and key, what is wrong, and nothing that is secret."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text.replace("{tmp}", str(folder)))
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ=ENVIRON)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.problems == (message,), "one fault, one message"
    assert "\n" not in message
    assert message.startswith(f"{file}:{line}: ")
    where = message.removeprefix(f"{file}:{line}: ")
    if key:
        name, _, _ = where.partition(": ")
        assert name == key or name.endswith(f".{key}")
    assert words in where
    assert CANARY not in repr(caught.value)
    assert CANARY not in "".join(map(str, (caught.value.__cause__, caught.value.__context__)))


def test_there_are_enough_of_them() -> None:
    """At least 60 broken configurations are tried."""
    assert len(CASES) >= 60


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    """Five faults give five lines, in the order of the file."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(
        "llama_stack:\n  url: x\n  timeout: 0\n"
        "azure_entra_id:\n  tenant_id: 5\n  client_secret: ${env.UNSET}\n  prefetch: 3\n"
    )
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    lines = [problem.removeprefix(f"{file}:").split(":")[0] for problem in caught.value.problems]
    assert lines == ["2", "3", "4", "5", "6", "7"]  # 4: client_id is missing


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """No file, a directory, and bytes that are not text are configuration errors too."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("none", "no such file"), ("", "cannot be read"), ("binary", "UTF-8")):
        with pytest.raises(InvalidConfigurationError, match=words):
            load_configuration(tmp_path / name, environ={})


def test_a_mapping_is_judged_like_a_file() -> None:
    """Where there is no file, the message begins with what the caller calls it."""
    with pytest.raises(InvalidConfigurationError) as caught:
        configuration_from_mapping({"llama_stack": {"url": "x"}}, environ={}, where="request")
    assert str(caught.value).startswith("request: llama_stack.url: is not a URL")


NESTED = """
llama_stack:
  use_as_library_client: true
  config:
    baseline: nothing
    native_override: 5
credential_resolvers:
  - name: vault
    options:
      url: https://vault.test
      kubernetes:
        role: 5
        mount: auth/kubernetes
  - name: keyvault
    enabled: false
    options: {ur: x}
  - name: keyvault
    use: 5
    options: {ur: x}
provider_credentials:
  - provider_id: vllm
    source:
      entra:
        scope: a b
        identity: ""
  - provider_id: openai
    source: 5
  - provider_id: groq
proxy:
  inbound:
    kind: jwt
    leeway: 3600
    issuer: https://issuer.test
    audience: api
    algorithms: [none]
"""


def test_every_problem_of_nested_blocks_has_its_own_line(tmp_path: Path) -> None:
    """All at once, at any depth; a resolver that is off, or whose kind is not known, is not judged."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(NESTED.lstrip())
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    resolvers, keys = "credential_resolvers", "provider_credentials"
    assert [each.removeprefix(f"{file}:") for each in caught.value.problems] == [
        "4: llama_stack.config.baseline: must be one of default, byo-llm, empty",
        "5: llama_stack.config.native_override: must be a map of keys and values",
        f"11: {resolvers}[0].options.kubernetes.role: must be text; put the value in quotes",
        (
            f"12: {resolvers}[0].options.kubernetes.mount: must name the mount alone, such as "
            "kubernetes: without auth/ and /login"
        ),
        f"17: {resolvers}[2].use: must be text; put the value in quotes",
        (
            f"23: {keys}[0].source.entra.scope: must be one scope, such as "
            "https://cognitiveservices.azure.com/.default, without spaces"
        ),
        f"24: {keys}[0].source.entra.identity: is empty; give a value, or remove the key",
        f"26: {keys}[1].source: must be a map; write source: {{file: …}}",
        f"27: {keys}[2].source: is missing; write source: {{file: …}}",
        "31: proxy.inbound.leeway: must be at most 600 seconds",
        (
            "34: proxy.inbound.algorithms: must name asymmetric algorithms only: with none anybody, "
            "and with HS* whoever can verify a token, could make one"
        ),
    ]
