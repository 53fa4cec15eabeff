"""The enricher: `model_validation: false` on Azure providers, and nothing else changed."""

import copy
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from integration_support import EXAMPLE

from lightspeed_azure import (
    InvalidConfigurationError,
    enrich_azure_entra_id_inference,
    generate_configuration,
)
from lightspeed_azure.cli import main


def stack(*providers: dict[str, Any]) -> dict[str, Any]:
    """Return a stack's configuration with these inference providers."""
    return {"version": 2, "providers": {"inference": list(providers), "safety": []}}


AZURE = {"provider_id": "azure", "provider_type": "remote::azure", "config": {"base_url": "x"}}
OTHER = {"provider_id": "openai", "provider_type": "remote::openai", "config": {"a": 1}}


def test_only_azure_providers_change() -> None:
    """Every Azure provider gets the switch; everything else is as before."""
    config = stack(AZURE, OTHER, {**AZURE, "provider_id": "my-aoai"})
    config = copy.deepcopy(config)
    enrich_azure_entra_id_inference(config, {})
    first, other, second = config["providers"]["inference"]
    assert first == {**AZURE, "config": {"base_url": "x", "model_validation": False}}
    assert second["config"]["model_validation"] is False
    assert other == OTHER


def test_without_entra_id_nothing_changes() -> None:
    """None means that Entra ID is not configured."""
    config = copy.deepcopy(stack(AZURE))
    enrich_azure_entra_id_inference(config, None)
    assert config == stack(AZURE)


def test_twice_is_as_once() -> None:
    """Enriching what is enriched changes nothing more."""
    config = copy.deepcopy(stack(AZURE))
    enrich_azure_entra_id_inference(config, {})
    once = copy.deepcopy(config)
    enrich_azure_entra_id_inference(config, {})
    assert config == once


def test_a_provider_without_config_gets_one() -> None:
    """A missing or empty config is a map with the switch afterwards."""
    config = stack({"provider_id": "azure", "provider_type": "remote::azure", "config": None})
    enrich_azure_entra_id_inference(config, {})
    assert config["providers"]["inference"][0]["config"] == {"model_validation": False}


def test_a_conditional_provider_is_understood() -> None:
    """`${env.KEY:+remote::azure}` is Azure's too."""
    config = copy.deepcopy(stack({**AZURE, "provider_type": "${env.AZURE:+remote::azure}"}))
    enrich_azure_entra_id_inference(config, {})
    assert config["providers"]["inference"][0]["config"]["model_validation"] is False


def test_a_config_that_is_shared_changes_for_azure_alone() -> None:
    """One object, as YAML's aliases give it, becomes two where another provider has it too."""
    shared = {"base_url": "x"}
    config = stack({**AZURE, "config": shared}, {**OTHER, "config": shared})
    enrich_azure_entra_id_inference(config, {})
    first, other = config["providers"]["inference"]
    assert first["config"] == {"base_url": "x", "model_validation": False}
    assert other["config"] == {"base_url": "x"}


@pytest.mark.parametrize(
    "config",
    [
        {"providers": []},
        {"providers": {"inference": {}}} | {"providers": {"inference": "x"}},
        stack({**AZURE, "config": "x"}),
    ],
)
def test_a_wrong_shape_is_an_error(config: dict[str, Any]) -> None:
    """What no stack takes is said, not guessed at."""
    if config["providers"] == []:
        config["providers"] = ["x"]
    with pytest.raises(InvalidConfigurationError):
        enrich_azure_entra_id_inference(config, {})


def test_a_file_keeps_its_comments_and_is_private(tmp_path: Path) -> None:
    """Comments, order and `${env.…}` survive; only the switch is added; mode 0600."""
    output = tmp_path / "out.yaml"
    generate_configuration(EXAMPLE / "run.yaml", output, {})
    before, after = (EXAMPLE / "run.yaml").read_text(), output.read_text()
    for comment in [line.partition("#")[2].strip() for line in before.splitlines() if "#" in line]:
        assert comment in after
    loaded, original = yaml.safe_load(after), yaml.safe_load(before)
    assert loaded["providers"]["inference"][0]["config"].pop("model_validation") is False
    assert loaded == original
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [output]


def test_the_command_enriches(tmp_path: Path) -> None:
    """`lightspeed-azure enrich INPUT -o OUTPUT`."""
    output = tmp_path / "out.yaml"
    result = CliRunner().invoke(main, ["enrich", str(EXAMPLE / "run.yaml"), "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "model_validation: false" in output.read_text()


@pytest.mark.parametrize("content", [None, "a: [", "- x\n", "\x00", "providers: {inference: x}\n"])
def test_bad_input_is_exit_code_2_and_nothing_is_written(
    tmp_path: Path, content: str | None
) -> None:
    """One clear message that names the file; no output, no leftovers."""
    source, output = tmp_path / "in.yaml", tmp_path / "out.yaml"
    if content is not None:
        source.write_text(content)
    result = CliRunner().invoke(main, ["enrich", str(source), "-o", str(output)])
    assert result.exit_code == 2, result.output
    assert str(source) in result.output
    assert "Traceback" not in result.output
    assert not output.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"in.yaml"}


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    """The output must be another file."""
    source = tmp_path / "run.yaml"
    source.write_text((EXAMPLE / "run.yaml").read_text())
    result = CliRunner().invoke(main, ["enrich", str(source), "-o", str(source)])
    assert result.exit_code == 2
    assert source.read_text() == (EXAMPLE / "run.yaml").read_text()
