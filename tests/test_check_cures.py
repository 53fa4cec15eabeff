"""`lightspeed-azure check` gives the right cure, once, and none where nothing is wrong."""

from pathlib import Path

import pytest
from broken_configurations import CASES, ENVIRON, write_bad_files
from check_support import check, states, write_configuration

from lightspeed_azure.check import unreadable
from lightspeed_azure.check.finding import of_problem
from lightspeed_azure.config import load_configuration
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.errors import InvalidConfigurationError


@pytest.fixture
def library(tmp_path: Path, azure_environment: dict[str, str]) -> Path:
    """The example's configuration in library mode."""
    return write_configuration(tmp_path)


@pytest.fixture
def service(tmp_path: Path, azure_environment: dict[str, str]) -> Path:
    """The example's configuration for a stack that does not run."""
    return write_configuration(tmp_path, url=f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_no_problem_is_printed_again_as_its_cure(text: str, tmp_path: Path) -> None:
    """What is wrong and what to do are the two halves of the problem; one half may be missing."""
    write_bad_files(tmp_path)
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(text.replace("{tmp}", str(tmp_path)))
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ=ENVIRON)
    (finding,) = unreadable(caught.value)
    cure = finding.cure[:1].lower() + finding.cure[1:]
    (problem,) = caught.value.problems
    assert problem.lower() == f"{finding.found}; {cure}".removesuffix("; ").lower()
    assert finding.found


def test_a_problem_without_a_cure_has_none() -> None:
    """The text stays whole, and is not shown twice."""
    found = of_problem("configuration", "file:1: kind: must be jwt, api_keys or none")
    assert (found.found, found.cure) == ("file:1: kind: must be jwt, api_keys or none", "")


def test_a_tenant_that_is_no_id_has_a_cure(tmp_path: Path) -> None:
    """The whole message, and where to find the id."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("azure_entra_id: {tenant_id: a b, client_id: c, client_secret: s}\n")
    code, findings = check(file)
    assert code == 2
    assert findings["configuration"] == [
        {
            "question": "configuration",
            "state": "ill",
            "found": (
                f"{file}:1: azure_entra_id.tenant_id: must be an id such as "
                "00000000-0000-0000-0000-000000000000"
            ),
            "cure": "Copy it from the overview page of the application in Azure",
        }
    ]


def test_a_file_of_the_stack_that_cannot_be_read_has_its_own_cure(service: Path) -> None:
    """The error tells what to do; nothing is added to it."""
    (service.parent / "run.yaml").write_text("providers: {inference: x}\n")
    (finding,) = check(service)[1]["run.yaml"]
    assert finding["found"] == (
        f"{service.parent}/run.yaml:1: providers.inference: is not a list of providers"
    )
    assert finding["cure"] == "Begin each one with a dash"


KEYS = "provider_credentials:\n  - {provider_id: %s, source: {value: sk-0123456789abcdef}}\n"


@pytest.mark.parametrize(
    ("written", "found", "cure"),
    [
        (
            "opnai",
            "provider_credentials opnai.key: the stack has no provider opnai",
            "Did you mean openai?",
        ),
        (
            "zzz",
            "provider_credentials zzz.key: the stack has no provider zzz",
            "Write one of azure, openai",
        ),
    ],
)
def test_a_misspelt_provider_is_named_in_library_mode(
    library: Path, written: str, found: str, cure: str
) -> None:
    """As in service mode; run.yaml says which providers there are."""
    _with_openai(library)
    library.write_text(library.read_text() + KEYS % written)
    code, findings = check(library)
    assert code == 1
    assert [(each["found"], each["cure"]) for each in findings["key"]] == [(found, cure)]


def test_the_right_provider_is_well_in_library_mode(library: Path) -> None:
    """The positive twin: no finding about a key that does not fit."""
    _with_openai(library)
    library.write_text(library.read_text() + KEYS % "openai")
    findings = check(library)[1]
    assert "key" not in findings
    assert states(findings)["key (openai.key)"] == "well"


def test_a_field_that_the_provider_does_not_read_is_named_in_library_mode(library: Path) -> None:
    """As in service mode."""
    _with_openai(library)
    text = "provider_credentials:\n  - {provider_id: openai, field: vllm_api_token, source: {value: k}}\n"
    library.write_text(library.read_text() + text)
    (finding,) = check(library)[1]["key"]
    assert finding["found"] == (
        "provider_credentials: openai: vllm_api_token is none that remote::openai reads"
    )
    assert finding["cure"] == "Its fields are openai_api_key"


def test_an_identity_for_a_provider_that_is_not_there_is_named(library: Path) -> None:
    """A misspelt provider_id of an identity, in library mode; the right one is no finding."""
    text = library.read_text()
    library.write_text(text.replace("azure_entra_id:\n", "azure_entra_id:\n  provider_id: azrue\n"))
    finding = check(library)[1]["credential (azrue)"][-1]
    assert (finding["state"], finding["found"]) == ("ill", "the stack has no provider azrue")
    assert finding["cure"] == "Did you mean azure?"
    library.write_text(text.replace("azure_entra_id:\n", "azure_entra_id:\n  provider_id: azure\n"))
    assert states(check(library)[1])["credential (azure)"] == "well"


def _with_openai(file: Path) -> None:
    run_yaml = file.parent / "run.yaml"
    text = run_yaml.read_text()
    entry = "    - provider_id: openai\n      provider_type: remote::openai\n      config: {}\n"
    run_yaml.write_text(text.replace("  inference:\n", f"  inference:\n{entry}", 1))


def test_a_service_needs_no_file_of_the_stack(service: Path) -> None:
    """Where the configuration names no run.yaml, nothing is said of it."""
    text = service.read_text()
    service.write_text(
        "".join(line for line in text.splitlines(keepends=True) if "run.yaml" not in line)
    )
    assert "run.yaml" not in check(service)[1]


def test_no_azure_provider_is_asked_for_where_none_is_wanted(tmp_path: Path) -> None:
    """Keys of other providers alone: run.yaml without Azure is well."""
    file = tmp_path / "lightspeed-stack.yaml"
    run_yaml = tmp_path / "run.yaml"
    run_yaml.write_text(
        "providers:\n  inference:\n"
        "    - {provider_id: openai, provider_type: remote::openai, config: {}}\n"
    )
    text = f"llama_stack: {{use_as_library_client: true, library_client_config_path: {run_yaml}}}\n"
    file.write_text(text + KEYS % "openai")
    assert check(file)[1]["run.yaml"] == [
        {
            "question": "run.yaml",
            "state": "well",
            "found": f"{run_yaml} needs no enriching",
            "cure": "",
        }
    ]
    file.write_text(text + "azure_entra_id: {managed_identity: system, deadline: 1}\n")
    assert "has no provider of type remote::azure" in check(file)[1]["run.yaml"][1]["found"]
