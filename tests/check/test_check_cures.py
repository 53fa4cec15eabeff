"""`lightspeed-azure check` gives the right cure, once, and none where nothing is wrong."""

from pathlib import Path
from typing import Any

import pytest
from broken_configurations import CASES, ENVIRON, write_bad_files
from check_support import check, states, write_configuration
from entra_material import assertion
from signing_in import federated

from lightspeed_azure.check import configuration_findings
from lightspeed_azure.check.finding import from_problem
from lightspeed_azure.config import load_configuration
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.emulators import Emulators
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
    (finding,) = configuration_findings(caught.value)
    cure = finding.cure[:1].lower() + finding.cure[1:]
    (problem,) = caught.value.problems
    assert problem.lower() == f"{finding.found}; {cure}".removesuffix("; ").lower()
    assert finding.found


def test_a_problem_without_a_cure_has_none() -> None:
    """The text stays whole, and is not shown twice."""
    found = from_problem("configuration", "file:1: kind: must be jwt, api_keys or none")
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
            "state": "failed",
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
            "Write one of azure, builtin, localfs, openai",
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
    assert states(findings)["key (openai.key)"] == "ok"


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
    assert (finding["state"], finding["found"]) == ("failed", "the stack has no provider azrue")
    assert finding["cure"] == "Did you mean azure?"
    library.write_text(text.replace("azure_entra_id:\n", "azure_entra_id:\n  provider_id: azure\n"))
    assert states(check(library)[1])["credential (azure)"] == "ok"


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
            "state": "ok",
            "found": f"{run_yaml} needs no enriching",
            "cure": "",
        }
    ]
    file.write_text(text + "azure_entra_id: {managed_identity: system, deadline: 1}\n")
    assert "has no provider of type remote::azure" in check(file)[1]["run.yaml"][1]["found"]


def test_the_authority_is_trusted_as_azure_identity_trusts_it(
    library: Path, azure_emulators: Emulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE alone is enough for both; SSL_CERT_FILE, which httpx reads, for neither."""
    bundle = str(azure_emulators.ca_bundle)
    monkeypatch.delenv("AZURE_AUTHORITY_CA_BUNDLE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    found = states(check(library)[1])
    assert found["authority"] == found["token"] == "ok"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    findings = check(library)[1]
    assert states(findings)["authority"] == states(findings)["token"] == "failed"
    assert findings["authority"][0]["found"] == (
        f"{azure_emulators.entra.authority}/{azure_emulators.entra.tenant_id}/v2.0/.well-known/"
        "openid-configuration: its certificate is not trusted: unable to get local issuer certificate"
    )
    assert findings["authority"][0]["cure"] == (
        "A private CA, or a proxy that inspects TLS? Set ca_bundle to its certificates"
    )


@pytest.mark.parametrize(
    ("changes", "state", "shown"),
    [
        (
            {"iss": "https://cluster.test//"},
            "ok",
            (
                "iss https://cluster.test//, sub system:serviceaccount:lightspeed:stack, "
                "aud api://AzureADTokenExchange"
            ),
        ),
        (
            {"aud": "https://kubernetes.default.svc"},
            "warning",
            (
                "iss https://cluster.test, sub system:serviceaccount:lightspeed:stack, "
                "aud https://kubernetes.default.svc"
            ),
        ),
    ],
)
def test_the_assertion_is_shown_by_its_claims(
    library: Path,
    azure_emulators: Emulators,
    monkeypatch: pytest.MonkeyPatch,
    *,
    changes: dict[str, Any],
    state: str,
    shown: str,
) -> None:
    """Issuer, subject and audience stand beside Entra ID's refusal, and the assertion nowhere."""
    federated(azure_emulators)
    token = assertion(**changes)
    file = library.parent / "token"
    file.write_text(token)
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    text = library.read_text().partition("azure_entra_id:")[0]
    library.write_text(f"{text}azure_entra_id: {{federated_token_file: {file}}}\n")
    findings = check(library)[1]
    assert findings["assertion"] == [
        {
            "question": "assertion",
            "state": state,
            "found": shown,
            "cure": findings["assertion"][0]["cure"],
        }
    ]
    assert states(findings)["token"] == "failed"
    assert token not in str(findings)
    if state == "warning":
        assert findings["assertion"][0]["cure"] == (
            "Have it issued for api://AzureADTokenExchange, unless the federated credential names "
            "this audience"
        )


@pytest.mark.parametrize(
    ("old", "new", "found", "cure"),
    [
        (
            "provider_type: remote::azure\n",
            "provider_type: remote::azure-openai\n",
            "providers.inference[0].provider_type: is none that a stack knows",
            "Did you mean remote::azure?",
        ),
        (
            "${env.AZURE_API_BASE}",
            "${env.UNSET_API_BASE}",
            (
                "providers.inference[0].config.base_url: keeps the stack from starting where "
                "UNSET_API_BASE has no value"
            ),
            "Set it to https://<resource>.openai.azure.com/openai/v1",
        ),
    ],
)
def test_a_stack_that_cannot_start_fails_in_library_mode(
    library: Path, old: str, new: str, found: str, cure: str
) -> None:
    """It starts here, so the exit code is 1; the file as it was is well."""
    run_yaml = library.parent / "run.yaml"
    text = run_yaml.read_text()
    code, findings = check(library)
    assert code == 0
    assert states(findings)["run.yaml"] == "ok"
    run_yaml.write_text(text.replace(old, new))
    code, findings = check(library)
    assert code == 1
    (finding,) = [each for each in findings["run.yaml"] if each["state"] == "failed"]
    assert finding["found"].endswith(found)
    assert finding["cure"] == cure


def test_an_alias_that_library_mode_resolves_is_well(library: Path) -> None:
    """The command refuses to edit it, but library mode does not edit."""
    run_yaml = library.parent / "run.yaml"
    text = run_yaml.read_text()
    head, tail = text.split("      config:\n", 1)
    lines = tail.splitlines(keepends=True)
    body = "".join(line for line in lines[:1])
    anchored = f"x-azure: &azure\n  {body.strip()}\n"
    run_yaml.write_text(anchored + head + "      config: *azure\n" + "".join(lines[1:]))
    assert "failed" not in {each["state"] for each in check(library)[1]["run.yaml"]}
