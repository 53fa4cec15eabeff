"""What is given in the place of run.yaml, and what is written in the place of remote::azure."""

from pathlib import Path

import pytest
from check_support import check, run

from lightspeed_azure.enrichment import enrich_text
from lightspeed_azure.errors import InvalidConfigurationError

RUN = "providers: {inference: []}\n"

GIVEN = [
    (
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  run.yaml: |\n    providers: {}\n",
        (
            "1: is a Kubernetes ConfigMap, not a stack's configuration; give the text below its data: "
            "kubectl get configmap NAME -o jsonpath='{.data.run\\.yaml}' | lightspeed-azure enrich -"
        ),
    ),
    (
        "apiVersion: v1\nkind: Secret\nstringData:\n  run.yaml: |\n    providers: {}\n",
        "1: is a Kubernetes Secret, not a stack's configuration; give the run.yaml that it holds",
    ),
    (
        "# mine\napiVersion: apps/v1\nkind: Deployment\nspec: {}\n",
        (
            "2: is a Kubernetes Deployment, not a stack's configuration; give the run.yaml that the "
            "stack starts from"
        ),
    ),
    (
        (
            "name: lightspeed\nllama_stack:\n  use_as_library_client: true\n"
            "  library_client_config_path: run.yaml\nazure_entra_id: {}\n"
        ),
        (
            "2: is lightspeed-stack.yaml, not a stack's configuration; give run.yaml, which "
            "library_client_config_path names, and this file with -c"
        ),
    ),
    (
        "azure_entra_id: {}\n",
        (
            "1: is lightspeed-stack.yaml, not a stack's configuration; give the stack's run.yaml, and "
            "this file with -c"
        ),
    ),
    (
        "services:\n  llama-stack:\n    image: x\n",
        (
            "1: is a Compose file, not a stack's configuration; give the run.yaml that the stack "
            "starts from"
        ),
    ),
]


@pytest.mark.parametrize(("text", "said"), GIVEN)
def test_another_file_is_told_by_its_kind(text: str, said: str, tmp_path: Path) -> None:
    """Nothing is written, the exit code is 2, and what to give instead is said."""
    source, target = tmp_path / "given.yaml", tmp_path / "out.yaml"
    source.write_text(text)
    result = run("enrich", str(source), "-o", str(target))
    assert result.exit_code == 2
    assert result.stderr == f"lightspeed-azure: {source}:{said}\n"
    assert not target.exists()


def test_the_doctor_says_it_too(tmp_path: Path) -> None:
    """A ConfigMap given with --run-yaml is no run.yaml either."""
    config, source = tmp_path / "lightspeed-stack.yaml", tmp_path / "given.yaml"
    config.write_text("azure_entra_id: {managed_identity: system, deadline: 1}\n")
    source.write_text(GIVEN[1][0])
    (finding,) = check(config, "--run-yaml", str(source))[1]["run.yaml"]
    assert finding["state"] == "failed"
    assert finding["cure"] == "Give the run.yaml that it holds"


@pytest.mark.parametrize("text", [RUN, "version: 2\nkind: x\n" + RUN, "services: {}\n" + RUN])
def test_a_stack_configuration_is_taken(text: str) -> None:
    """The twin: whatever else stands beside `providers`."""
    assert enrich_text(text, "run.yaml", [None]).after == text


@pytest.mark.parametrize(
    "written",
    [
        "remote::azure-openai",
        "remote::azure_openai",
        "remote::azureopenai",
        "remote::azure_ai",
        "remote:azure",
        "inline::azure",
        "Remote::Azure",
        "remote::azur",
        "azure",
        "azure_openai",
    ],
)
@pytest.mark.parametrize("other", ["", "    - {provider_id: b, provider_type: 'remote::azure'}\n"])
def test_a_slip_in_the_provider_type_is_named(written: str, other: str) -> None:
    """With the line; and nobody is told to add a provider that is there."""
    text = (
        "version: 2\nproviders:\n  inference:\n"
        f"    - provider_id: azure\n      provider_type: '{written}'\n{other}"
    )
    outcome = enrich_text(text, "run.yaml", [None])
    assert outcome.warnings[0] == (
        "run.yaml:5: providers.inference[0].provider_type: is none that a stack knows; "
        "did you mean remote::azure?"
    )
    assert not any("has no provider of type" in line for line in outcome.warnings)


@pytest.mark.parametrize(
    "entry",
    [
        "provider_type: remote::azure-entra\n      module: lightspeed_azure",
        "provider_type: remote::azure-ours\n      module: ours",
        "provider_type: remote::openai",
        "provider_type: ${env.KIND:=remote::azure}",
        "provider_type: ${env.KIND}",
    ],
)
def test_a_type_that_may_be_meant_is_left_alone(entry: str) -> None:
    """The twin: an external provider, another provider, and one that a variable names."""
    text = f"providers:\n  inference:\n    - provider_id: azure\n      {entry}\n"
    assert not any(
        "did you mean" in line for line in enrich_text(text, "run.yaml", [None]).warnings
    )


def test_a_map_that_is_no_configuration_still_has_its_shape_named() -> None:
    """A list is no configuration of anything."""
    with pytest.raises(InvalidConfigurationError) as caught:
        enrich_text("- a\n", "run.yaml", [None])
    assert str(caught.value) == (
        "run.yaml:1: is not a map; a stack's configuration has keys such as providers"
    )
