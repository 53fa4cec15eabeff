"""`provider_credentials:` as an operator writes it, and what is said where it cannot work."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightspeed_azure.config import (
    Configuration,
    ProviderCredential,
    configuration_from_mapping,
    load_configuration,
)
from lightspeed_azure.config.provider_credentials import Source
from lightspeed_azure.config.provider_fields import TABLE
from lightspeed_azure.errors import InvalidConfigurationError


def read(block: Any, **more: Any) -> tuple[ProviderCredential, ...]:
    """Return the entries of a block."""
    data = {"provider_credentials": block, **more}
    environ = {"SET": "from-the-environment", "EMPTY": ""}
    return configuration_from_mapping(data, environ=environ).provider_credentials


def written(folder: Path, text: str, environ: dict[str, str] | None = None) -> Configuration:
    """Return what an operator's file comes to."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text)
    return load_configuration(file, environ=environ or {})


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong with an operator's file, each line without the folder."""
    with pytest.raises(InvalidConfigurationError) as caught:
        written(folder, text, environ)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


DOCUMENTED = ProviderCredential(
    provider_id="rhoai", field="vllm_api_token", source=Source(file=Path("/run/rhoai"))
)


@pytest.mark.parametrize(
    "block",
    [
        [{"provider_id": "rhoai", "field": "vllm_api_token", "source": {"file": "/run/rhoai"}}],
        [{"provider_id": "rhoai", "fields": {"vllm_api_token": {"file": "/run/rhoai"}}}],
        [{"provider_id": "rhoai", "field": "vllm_api_token", "file": "/run/rhoai"}],
        {"provider_id": "rhoai", "field": "vllm_api_token", "file": "/run/rhoai"},
        {"rhoai": {"field": "vllm_api_token", "source": {"file": "/run/rhoai"}}},
    ],
    ids=["documented", "fields", "beside", "alone", "map"],
)
def test_shapes(block: Any) -> None:
    """One way is documented; what can only mean the same is understood too."""
    assert read(block) == (DOCUMENTED,)


def test_several_fields_and_variables() -> None:
    """One entry may fill several fields; `${env.…}` is replaced; a provider can be switched off."""
    found = read(
        [
            {
                "provider_id": "wx",
                "fields": {
                    "watsonx_api_key": {"value": "${env.SET}"},
                    "watsonx_project_id": {"value": "p"},
                },
            },
            {"provider_id": "${env.EMPTY:+off}", "source": {"value": "${env.UNSET:=x}"}},
        ]
    )
    assert [each.field for each in found] == ["watsonx_api_key", "watsonx_project_id"]
    secret = found[0].source.value
    assert secret is not None
    assert secret.get_secret_value() == "from-the-environment"


@pytest.mark.parametrize(
    ("kind", "stack_type", "source"),
    [
        ("openai", "remote::openai", "file"),
        ("azure_openai", "remote::azure", "file"),
        ("watsonx", "remote::watsonx", "file"),
        ("rhoai_vllm", "remote::vllm", "file"),
        ("rhelai_vllm", "remote::vllm", "file"),
        ("google_vertex", "remote::vertexai", "google"),
        ("google_vertex_anthropic", None, "google"),
    ],
)
def test_a_block_of_openshift_lightspeed(kind: str, stack_type: str | None, source: str) -> None:
    """An entry of olsconfig.yaml is understood; the nested credentials_path wins over the top one."""
    top = {
        "name": "mine",
        "type": kind,
        "url": "https://example.com",
        "models": [{"name": "m"}],
        "credentials_path": "/run/top",
    }
    nested = {f"{kind}_config": {"url": "https://example.com", "credentials_path": "/run/nested"}}
    for block, path in ((top, "/run/top"), (top | nested, "/run/nested")):
        (one,) = read([block])
        assert (one.provider_id, one.provider_type, one.field) == ("mine", stack_type, None)
        assert one.source.kind == source
        assert str(getattr(one.source, source)) == path


def test_the_project_of_a_vertex_block() -> None:
    """Project and location of `google_vertex_config` become fields of the provider."""
    block = {
        "name": "v",
        "type": "google_vertex",
        "credentials_path": "/run/v",
        "google_vertex_config": {"project": "p", "location": "eu"},
    }
    assert [each.field for each in read([block])] == [None, "vertex_project", "vertex_location"]


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    """All problems at once, each with file, line, key and cure, the right field's name among them."""
    (tmp_path / "empty").write_text("\n")
    text = f"""\
llama_stack: {{url: "http://127.0.0.1:1"}}
provider_credentials:
  - provider_id: a
    provider_type: remote::vllm
    field: openai_api_key
    source: {{env: NOT_SET}}
  - provider_id: b
    field: vllm_api_tokn
    source: {{env: NOT_SET}}
  - provider_id: c
    source: {{file: {tmp_path}/empty}}
  - source: {{value: s3cret-in-the-open, file: /x}}
  - provider_id: e
    source:
      fil: /x
  - name: f
    type: rhoai_vllm
    credentials_path: {tmp_path}/empty
    rhoai_vllm_config:
      credentials_path: {tmp_path}/missing
  - name: g
    type: watsonx
    credentials_path: /x
    rhoai_vllm_config: {{url: "https://x"}}
"""
    found = "\n".join(problems(tmp_path, text))
    where = "lightspeed-stack.yaml"
    for line in (
        f"{where}:5: provider_credentials[0].field: is none that remote::vllm reads; its fields are vllm_api_token",
        f"{where}:8: provider_credentials[1].field: is none that a provider reads; did you mean vllm_api_token?",
        f"{where}:11: provider_credentials[2].source.file: {tmp_path}/empty: is empty",
        f"{where}:12: provider_credentials[3].provider_id: is missing",
        f"{where}:12: provider_credentials[3].source.value: file and value exclude",
        f"{where}:15: provider_credentials[4].source.fil: there is no such key; did you mean file?",
        f"{where}:20: provider_credentials[5].rhoai_vllm_config.credentials_path: {tmp_path}/missing: there is no such file",
        f"{where}:24: provider_credentials[6].rhoai_vllm_config: belongs to another type",
    ):
        assert line in found, line
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("text", "must be a list of entries"),
        ([None], "must be a map"),
        ([{"provider_id": "x"}], "source: is missing"),
        ([{"provider_id": "x", "source": "s3cret"}], "source: must be a map"),
        ([{"provider_id": "x", "source": {}}], "says no source"),
        ([{"provider_id": "x", "fields": {}}], "must be a map from a field to its source"),
        ([{"provider_id": "x", "fields": "s3cret"}], "must be a map from a field to its source"),
        (
            [{"provider_id": "x", "field": "f", "fields": {"f": {"env": "A"}}}],
            "keep one or the oth",
        ),
        ([{"provider_id": 7, "source": {"env": "A"}}], "provider_id: must be text"),
        ([{"provider_id": "x", "sauce": {"env": "A"}}], "did you mean source?"),
        ([{"provider_id": "x", "source": {"entra": "yes"}}], "must be true, or a map"),
        ([{"provider_id": "x", "source": {"entra": True}}], "add an azure_entra_id block"),
        ([{"provider_id": "x", "source": {"value": "two\nlines-s3cret"}}], "line break"),
        ([{"provider_id": "x", "provider_type": "vlm", "source": {"env": "A"}}], "remote::vllm?"),
        ([{"name": "x", "type": "vllm", "credentials_path": "/x"}], "must be one of azure_openai"),
        ([{"name": "x", "type": "watsonx", "watsonx_config": {"url": "u"}}], "name the file with"),
        ([{"provider_id": "x", "source": {"env": "A"}}] * 2, "an entry above fills already"),
        ([{"provider_id": "x", "optional": "maybe", "source": {"env": "A"}}], "true or false"),
    ],
)
def test_what_cannot_work(block: Any, message: str) -> None:
    """Each slip is a typed error that says what to do, and repeats no value."""
    with pytest.raises(InvalidConfigurationError) as caught:
        read(block)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo", "more than one line"),
        (b"\xff\xfe", "is not text"),
        (b"x" * 20_000, "has more than 16000 bytes"),
        ("schlüssel".encode(), "characters that no key has"),
        (b'{"type": "service_account"}', "source: {google"),
    ],
    ids=["lines", "binary", "large", "umlaut", "json"],
)
def test_a_file_that_holds_no_key(tmp_path: Path, content: bytes, message: str) -> None:
    """What no header can carry is an error at start-up already."""
    (tmp_path / "key").write_bytes(content)
    text = f"provider_credentials: [{{provider_id: x, source: {{file: {tmp_path}/key}}}}]"
    (problem,) = problems(tmp_path, text)
    assert message in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "it is no JSON"),
        (b'{"type": "external_account"}', "has a type other than"),
        (b"[1]\n2", "neither the JSON"),
    ],
)
def test_a_file_that_holds_no_google_credential(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Half of a service account, or one of another kind, is an error at start-up."""
    (tmp_path / "key").write_bytes(content)
    text = f"provider_credentials: [{{provider_id: x, source: {{google: {tmp_path}/key}}}}]"
    (problem,) = problems(tmp_path, text)
    assert message in problem


def test_an_optional_source_may_be_empty(tmp_path: Path) -> None:
    """With `optional: true` neither a missing file nor an unset variable keeps a service down."""
    text = """\
provider_credentials:
  - {provider_id: x, optional: true, source: {file: /nowhere}}
  - {provider_id: y, optional: true, source: {env: NOT_SET}}
"""
    assert len(written(tmp_path, text).provider_credentials) == 2


def test_two_that_want_the_same_provider() -> None:
    """A provider with an identity of its own has no static key beside it; a named identity exists."""
    identity = {"tenant_id": "t", "client_id": "c", "client_secret": "s", "provider_id": "azure"}
    key = {"provider_id": "azure", "source": {"env": "SET"}}
    with pytest.raises(InvalidConfigurationError, match="has an identity in azure_entra_id, too"):
        read([key], azure_entra_id=identity)
    other = {"provider_id": "x", "source": {"entra": {"identity": "azur"}}}
    with pytest.raises(InvalidConfigurationError, match="is the provider_id of no azure_entra_id"):
        read([other], azure_entra_id=identity)
    assert read([{"provider_id": "x", "source": {"entra": True}}], azure_entra_id=identity)


def test_a_provider_that_takes_any_field() -> None:
    """`remote::passthrough` forwards fields that nobody else knows."""
    entry = {"provider_type": "passthrough", "field": "maas_token", "source": {"env": "SET"}}
    (one,) = read([entry])
    assert (one.provider_type, one.field) == ("remote::passthrough", "maas_token")


def test_no_secret_in_a_repr() -> None:
    """A configuration shows where a value comes from, never the value."""
    (one,) = read([{"provider_id": "x", "source": {"value": "s3cret-value"}}])
    assert "s3cret" not in f"{one!r} {one.model_dump()!r}"


PAGE = Path(__file__).parents[2] / "docs" / "credential-hot-reload.md"


@pytest.mark.parametrize("number", range(3))
def test_what_the_page_shows_is_read(number: int) -> None:
    """The YAML that an operator copies is a configuration."""
    fences = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(fences) == 3
    assert configuration_from_mapping(yaml.safe_load(fences[number])).provider_credentials


def test_the_pages_table_is_ours() -> None:
    """Each inference provider that takes a key, and each of its fields, stands in the table."""
    text = PAGE.read_text()
    for table in TABLE.values():
        for kind, fields in table.items():
            if not kind.endswith("-search") and kind not in ELSEWHERE:
                assert f"`{kind}`" in text, kind
                for name in fields if kind != "remote::oci" else ():
                    assert f"`{name}`" in text, name


ELSEWHERE = {"inline::braintrust", "remote::model-context-protocol", "remote::wolfram-alpha"}
"""They are asked in no inference request."""
