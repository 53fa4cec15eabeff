"""lightspeed-stack 0.7's own shapes of lightspeed-stack.yaml: the `ogx` block and unified mode."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lightspeed_azure import (
    Configuration,
    InvalidConfigurationError,
    LlamaStackConfiguration,
    enrich_azure_entra_id_inference,
    generate_configuration,
    load_configuration,
)
from lightspeed_azure.cli import main
from lightspeed_azure.config import configuration_from_mapping
from lightspeed_azure.enrichment.synthesis import stack_configuration, to_block_yaml

AZURE: dict[str, Any] = {
    "type": "azure",
    "api_key_env": "AZURE_API_KEY",
    "allowed_models": ["gpt-4o-mini"],
    "extra": {"base_url": "https://r.openai.azure.com/openai/v1", "api_version": "v1"},
}
PROFILE = """\
# The stack's own file.
version: 2
providers:
  inference:
    - provider_id: azure
      provider_type: remote::azure
      config: {base_url: "https://r.openai.azure.com/openai/v1", timeout: 0x10}
registered_resources:
  models: [{model_id: chat, provider_id: azure, model_type: llm}]
"""


def written(folder: Path, text: str) -> Path:
    """Write a lightspeed-stack.yaml."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(text)
    return file


def made(config: LlamaStackConfiguration | None) -> Any:
    """Return the stack's configuration, as the stack would read it."""
    assert config is not None
    found = stack_configuration(config)
    assert found is not None
    return yaml.safe_load(found[0])


@pytest.mark.parametrize("block", ["ogx", "llama_stack"])
def test_the_block_has_two_names(tmp_path: Path, block: str) -> None:
    """`ogx` is lightspeed-stack 0.7's, `llama_stack` the one before; both give the same."""
    file = written(tmp_path, f"{block}:\n  url: http://localhost:8321\n  max_retries: 3\n")
    loaded = load_configuration(file, environ={})
    assert loaded.llama_stack == LlamaStackConfiguration(url="http://localhost:8321")


def test_ogx_wins(tmp_path: Path) -> None:
    """With both blocks, `ogx` counts, and nothing is asked of the other."""
    file = written(tmp_path, "llama_stack: {url: 5}\nogx: {url: 'http://localhost:2'}\n")
    loaded = load_configuration(file, environ={}).llama_stack
    assert loaded == LlamaStackConfiguration(url="http://localhost:2")
    dump = {"ogx": None, "llama_stack": {"url": "http://localhost:1"}}
    assert configuration_from_mapping(dump).llama_stack == LlamaStackConfiguration(
        url="http://localhost:1"
    )


def test_problems_name_the_block_that_is_written(tmp_path: Path) -> None:
    """The key begins with `ogx` where the file says so."""
    file = written(tmp_path, "ogx:\n  url: localhost\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == f"{file}:2: ogx.url: is not a URL; write it as https://host:port"


@pytest.mark.parametrize("block", ["ogx", "llama_stack"])
def test_a_profile_alone_is_the_stacks_file(tmp_path: Path, block: str) -> None:
    """It is relative to lightspeed-stack.yaml, may name variables, and stays as it is to the byte."""
    (tmp_path / "run.yaml").write_text(PROFILE)
    text = (
        f"{block}: {{use_as_library_client: true, config: {{profile: '${{env.P:=run}}.yaml'}}}}\n"
    )
    config = load_configuration(written(tmp_path, text), environ={}).llama_stack
    assert config is not None
    assert stack_configuration(config) == (PROFILE, str(tmp_path / "run.yaml"))


def test_a_profile_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """With its key and line."""
    file = written(
        tmp_path, "ogx:\n  use_as_library_client: true\n  config:\n    profile: no.yaml\n"
    )
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == (
        f"{file}:4: ogx.config.profile: there is no such file; correct the path, or create it"
    )


def test_providers_need_no_file(tmp_path: Path) -> None:
    """`inference.providers` alone makes a stack; its keys are references, which nothing resolves."""
    text = yaml.safe_dump(
        {"ogx": {"use_as_library_client": True}, "inference": {"providers": [AZURE]}}
    )
    environ = {"AZURE_API_KEY": "not to be resolved"}
    tree = made(load_configuration(written(tmp_path, text), environ=environ).llama_stack)
    assert tree["providers"]["inference"] == [
        {
            "provider_id": "azure",
            "provider_type": "remote::azure",
            "config": {
                **AZURE["extra"],
                "api_key": "${env.AZURE_API_KEY}",
                "allowed_models": ["gpt-4o-mini"],
            },
        }
    ]
    assert tree["registered_resources"]["models"] == [
        {
            "model_id": "gpt-4o-mini",
            "provider_id": "azure",
            "provider_model_id": "gpt-4o-mini",
            "model_type": "llm",
        }
    ]
    assert {"inference", "responses"} <= set(tree["apis"])


def test_each_type_has_its_provider() -> None:
    """Types, ids and the names of keys are lightspeed-stack's."""
    providers = [
        {"type": "azure", "id": "my-aoai"},
        {"type": "vllm_rhaiis", "api_key_env": "KEY"},
        {"type": "sentence_transformers"},
        {"type": "watsonx", "allowed_models": ["m"]},
    ]
    config = configuration_from_mapping(
        {
            "ogx": {"use_as_library_client": True, "config": {"baseline": "empty"}},
            "inference": {"providers": providers},
        }
    )
    assert made(config.llama_stack) == {
        "providers": {
            "inference": [
                {
                    "provider_id": "my-aoai",
                    "provider_type": "remote::azure",
                    "config": {"base_url": "${env.AZURE_API_BASE}"},
                },
                {
                    "provider_id": "vllm-rhaiis",
                    "provider_type": "remote::vllm",
                    "config": {"api_token": "${env.KEY}"},
                },
                {
                    "provider_id": "sentence-transformers",
                    "provider_type": "inline::sentence-transformers",
                    "config": {},
                },
                {
                    "provider_id": "watsonx",
                    "provider_type": "remote::watsonx",
                    "config": {"allowed_models": ["m"]},
                },
            ]
        }
    }


def test_profile_providers_and_override_are_laid_over_each_other(tmp_path: Path) -> None:
    """A provider replaces that of its id; the override wins, maps merged and lists replaced."""
    (tmp_path / "run.yaml").write_text(PROFILE)
    override = {"server": {"port": 1}, "providers": {"safety": ["${env.NOT_OURS}"]}, "version": 3}
    text = yaml.safe_dump(
        {
            "ogx": {
                "use_as_library_client": True,
                "config": {"profile": "run.yaml", "native_override": override},
            },
            "inference": {"providers": [AZURE]},
        }
    )
    config = load_configuration(written(tmp_path, text), environ={}).llama_stack
    assert config is not None
    assert "NOT_OURS" not in repr(config)
    tree = made(config)
    assert tree["version"] == 3
    assert tree["server"] == {"port": 1}
    assert tree["providers"]["safety"] == ["${env.NOT_OURS}"]
    assert [each["config"]["api_version"] for each in tree["providers"]["inference"]] == ["v1"]
    assert [each["model_id"] for each in tree["registered_resources"]["models"]] == [
        "chat",
        "gpt-4o-mini",
    ]


@pytest.mark.parametrize(
    ("providers", "line", "problem"),
    [
        ("x", 3, ": must be a list, such as - type: azure"),
        ("[x]", 3, "[0]: must be a map of keys and values"),
        ("[{id: a}]", 3, "[0].type: is missing; write azure, openai, vllm or another type"),
        ("[{type: azure, extra: x}]", 3, "[0].extra: must be a map of keys and values"),
        ("[{type: azure, allowed_models: m}]", 3, "[0].allowed_models: must be a list of names"),
        ("[{type: azure, api_key_env: [K]}]", 3, "[0].api_key_env: must be the name of a variable"),
        (
            "[{type: azure}, {type: azure}]",
            3,
            "[1]: has the id azure of item 0; give one of them another id",
        ),
    ],
)
def test_a_provider_that_cannot_be_is_an_error(
    tmp_path: Path, providers: str, line: int, problem: str
) -> None:
    """Each with its key and line, and nothing else is said to be missing for that."""
    text = f"ogx: {{use_as_library_client: true}}\ninference:\n  providers: {providers}\n"
    file = written(tmp_path, text)
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == f"{file}:{line}: inference.providers{problem}"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{baseline: full}", "baseline: must be one of default, byo-llm, empty"),
        ("{profil: a}", "profil: there is no such key; did you mean profile?"),
        ("{native_override: x}", "native_override: must be a map of keys and values"),
        ("{profile: 5}", "profile: must be text; put the value in quotes"),
    ],
)
def test_a_config_that_cannot_be_is_an_error(tmp_path: Path, config: str, problem: str) -> None:
    """Each with its key and line; keys that are lightspeed-stack's own are let through."""
    file = written(tmp_path, f"ogx:\n  use_as_library_client: true\n  config: {config}\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == f"{file}:3: ogx.config.{problem}"
    written(
        tmp_path, "ogx:\n  use_as_library_client: true\n  config: {baseline: empty, other: 1}\n"
    )
    assert load_configuration(file, environ={}).llama_stack is not None


def test_a_file_and_unified_mode_exclude_each_other(tmp_path: Path) -> None:
    """As in lightspeed-stack; and with neither both are named."""
    (tmp_path / "run.yaml").write_text(PROFILE)
    text = "ogx:\n  use_as_library_client: true\n"
    path = f"  library_client_config_path: {tmp_path}/run.yaml\n"
    file = written(tmp_path, f"{text}{path}  config: {{}}\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == (
        f"{file}:3: ogx.library_client_config_path: and unified mode (config, inference.providers) "
        "exclude each other; keep one of them"
    )
    written(tmp_path, text)
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == (
        f"{file}:1: ogx.library_client_config_path: is missing; name Llama Stack's own "
        "configuration file, or, in unified mode, config.profile"
    )


class Model:
    """Any model with attributes, such as lightspeed-stack's."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def test_a_model_is_completed_from_the_operators_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lightspeed-stack's model of the block has no providers; its own file has, and it counts."""
    model = Model(use_as_library_client=True, library_client_config_path=None, config=None)
    monkeypatch.delenv("LIGHTSPEED_STACK_CONFIG_PATH", raising=False)
    with pytest.raises(InvalidConfigurationError, match="library_client_config_path: is missing"):
        LlamaStackConfiguration.from_object(model)
    config = {"profile": "run.yaml"}
    root = {
        "ogx": {"use_as_library_client": True, "config": config},
        "inference": {"providers": [AZURE]},
    }
    file = written(tmp_path, yaml.safe_dump(root))
    (tmp_path / "run.yaml").write_text(PROFILE)
    monkeypatch.setenv("LIGHTSPEED_STACK_CONFIG_PATH", str(file))
    assert made(LlamaStackConfiguration.from_object(model)) == made(
        load_configuration(file, environ={}).llama_stack
    )
    monkeypatch.setenv("LIGHTSPEED_STACK_CONFIG_PATH", str(tmp_path / "none.yaml"))
    with pytest.raises(InvalidConfigurationError) as caught:
        LlamaStackConfiguration.from_object(model)
    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: there is no such file; give its path, or create it"
    )


PLAIN: dict[str, Any] = {"url": "http://llama-stack:8321"}
REFUSED = (
    "url: would send tokens over plain HTTP to another machine; use https, or, if something else "
    "protects that way, set allow_insecure: true, pass allow_insecure=True to load() or lifespan(), "
    "or set LIGHTSPEED_AZURE_ALLOW_INSECURE=true"
)


def test_plain_http_must_be_allowed_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the key, an argument, or a variable; the error names the three."""
    name = "LIGHTSPEED_AZURE_ALLOW_INSECURE"
    for text in (None, "", "false"):
        monkeypatch.delenv(name, raising=False)
        if text is not None:
            monkeypatch.setenv(name, text)
        for refused in (PLAIN, Model(**PLAIN)):
            with pytest.raises(InvalidConfigurationError) as caught:
                LlamaStackConfiguration.from_object(refused)
            assert str(caught.value) == REFUSED
    allowed = LlamaStackConfiguration(**PLAIN, allow_insecure=True)
    assert LlamaStackConfiguration.from_object(Model(**PLAIN), allow_insecure=True) == allowed
    monkeypatch.setenv(name, "TRUE")
    assert LlamaStackConfiguration.from_object(Model(**PLAIN)) == allowed
    assert configuration_from_mapping({"ogx": PLAIN}).llama_stack == allowed


def test_the_file_comes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_insecure: false` stays false; a variable that says neither is an error."""
    monkeypatch.setenv("LIGHTSPEED_AZURE_ALLOW_INSECURE", "true")
    with pytest.raises(InvalidConfigurationError) as caught:
        LlamaStackConfiguration(**PLAIN, allow_insecure=False)
    assert str(caught.value) == REFUSED
    with pytest.raises(InvalidConfigurationError) as caught:
        LlamaStackConfiguration(**PLAIN, environ={"LIGHTSPEED_AZURE_ALLOW_INSECURE": "sure"})
    assert caught.value.problems == (
        "LIGHTSPEED_AZURE_ALLOW_INSECURE: must be true or false",
        REFUSED,
    )


def test_an_argument_reaches_the_file(tmp_path: Path) -> None:
    """`load_configuration` and a mapping take it too."""
    file = written(tmp_path, "ogx: {url: 'http://llama-stack:8321'}\n")
    loaded = load_configuration(file, environ={}, allow_insecure=True).llama_stack
    assert loaded == LlamaStackConfiguration(**PLAIN, allow_insecure=True)
    data = {"llama_stack": PLAIN}
    assert configuration_from_mapping(data, allow_insecure=True).llama_stack == loaded


WITHOUT: list[Any] = [
    {"llama_stack": {"url": "http://localhost:1"}},
    {"ogx": {"url": "http://localhost:1"}, "azure_entra_id": None},
    {"name": "x", "service": {}, "user_data_collection": {}},
    Configuration(),
    Model(azure_entra_id=None),
]


@pytest.mark.parametrize("whole", WITHOUT, ids=range(len(WITHOUT)))
def test_a_whole_configuration_without_entra_id_changes_nothing(tmp_path: Path, whole: Any) -> None:
    """The output is the input, to the byte."""
    (tmp_path / "run.yaml").write_text(PROFILE)
    generate_configuration(tmp_path / "run.yaml", tmp_path / "out.yaml", whole)
    assert (tmp_path / "out.yaml").read_text() == PROFILE


@pytest.mark.parametrize(
    "config",
    [
        {"ogx": {"url": "http://localhost:1"}, "azure_entra_id": {"tenant_id": "t"}},
        {"name": "x", "azure_entra_id": [{"provider_id": "azure"}]},
        {"tenant_id": "t"},
        {},
        Model(azure_entra_id=Model(tenant_id="t")),
    ],
    ids=range(5),
)
def test_entra_id_is_found_in_a_whole_configuration(tmp_path: Path, config: Any) -> None:
    """As a block it counts by itself, an empty one too."""
    (tmp_path / "run.yaml").write_text(PROFILE)
    generate_configuration(tmp_path / "run.yaml", tmp_path / "out.yaml", config)
    tree = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert tree["providers"]["inference"][0]["config"]["model_validation"] is False


def test_what_lightspeed_stack_makes_is_enriched(tmp_path: Path) -> None:
    """The command makes the stack's file itself in unified mode; the mapping takes the same."""
    root = {
        "ogx": {"use_as_library_client": True},
        "inference": {"providers": [AZURE, {"type": "openai"}]},
        "azure_entra_id": {},
    }
    file = written(tmp_path, yaml.safe_dump(root))
    result = CliRunner().invoke(main, ["enrich", "-c", str(file)])
    assert result.exit_code == 0, result.output
    azure, openai = yaml.safe_load(result.stdout)["providers"]["inference"]
    assert azure["config"]["model_validation"] is False
    assert azure["config"]["api_key"] == "${env.AZURE_API_KEY:=}"
    assert openai == {"provider_id": "openai", "provider_type": "remote::openai", "config": {}}
    environ = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
    tree = made(load_configuration(file, environ=environ).llama_stack)
    enrich_azure_entra_id_inference(tree, root["azure_entra_id"])
    assert [each["config"].get("model_validation") for each in tree["providers"]["inference"]] == [
        False,
        None,
    ]


def test_in_place_needs_a_file(tmp_path: Path) -> None:
    """In unified mode there is none to write over; a named one is taken as before."""
    root = {"ogx": {"config": {"baseline": "empty"}}, "azure_entra_id": {}}
    file = written(tmp_path, yaml.safe_dump(root))
    result = CliRunner().invoke(main, ["enrich", "-c", str(file), "--in-place"])
    assert result.exit_code == 2
    assert "--in-place: the configuration is in unified mode, so there is no file" in result.output
    run_yaml = tmp_path / "run.yaml"
    run_yaml.write_text(PROFILE)
    result = CliRunner().invoke(main, ["enrich", "-c", str(file), "--in-place", str(run_yaml)])
    assert result.exit_code == 0, result.output
    assert "model_validation: false" in run_yaml.read_text()


def test_what_is_made_says_what_was_meant() -> None:
    """Texts, numbers, lists in lists, empty ones, and keys that YAML takes for something else."""
    tree = {"a": ["1", 1, 1.5, None, True, "yes", "ü\n", [], {}, [[1], {"no": {"on": "x: y"}}]]}
    assert yaml.safe_load(to_block_yaml(tree)) == tree == json.loads(json.dumps(tree))
