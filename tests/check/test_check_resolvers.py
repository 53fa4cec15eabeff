"""`lightspeed-azure check` and the file's reader, about resolvers: what is wrong is said at once."""

import logging
from pathlib import Path

import pytest
from check_support import check, run
from resolving import Hook, hook_fixture

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.check.keys import check_keys
from lightspeed_azure.config import configuration_from_mapping, load_configuration
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys import configured, status

__all__ = ["hook_fixture"]

SECRET = "sk-of-the-safe-and-of-nobody-else"

MODULE = f"""
from lightspeed_azure.keys import PASS, Answer
class Safe:
    def before(self, question):
        return Answer("{SECRET}") if question.field == "vllm_api_token" else PASS
class Folder(Safe):
    def __init__(self, folder, *, depth=1):
        pass
class Anything(Safe):
    def __init__(self, **options):
        pass
def function(question):
    return PASS
ready = Safe()
NUMBER = 1
class Missing(Safe):
    pass
class Broken:
    def before(self, question):
        raise RuntimeError("{SECRET}")
"""


def written(folder: Path, text: str) -> Path:
    """Write a file for a stack that does not run."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(f"llama_stack:\n  url: http://127.0.0.1:{free_port()}\n{text}")
    return file


@pytest.fixture(autouse=True)
def module(hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with resolvers can be imported, and nothing is left registered."""
    del hook
    (tmp_path / "resolvers_of_check.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_resolver_is_asked_and_its_state_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that it has are well; one that fails has a cross; nothing shows a key."""
    caplog.set_level(logging.DEBUG)
    file = written(
        tmp_path,
        """\
credential_resolvers:
  - {name: safe, use: "resolvers_of_check:Safe"}
  - {name: broken, use: "resolvers_of_check:Broken"}
  - {name: idle, use: "resolvers_of_check:Missing"}
provider_credentials:
  - {provider_id: rhoai, field: vllm_api_token, source: {plugin: safe}}
  - {provider_id: rhelai, field: vllm_api_token, source: {plugin: broken}}
  - {provider_id: unknown, source: {plugin: safe}}
  - {provider_id: late, field: vllm_api_token, source: {plugin: registered-at-run-time}}
""",
    )
    code, findings = check(file)
    found = {name: (each[0]["state"], each[0]["found"]) for name, each in findings.items()}
    assert code == 1
    assert found["key (rhoai.vllm_api_token)"] == ("ok", "resolver safe")
    assert found["key (rhelai.vllm_api_token)"][0] == "failed"
    assert found["key (unknown.key)"] == (
        "warning",
        "the resolver was not asked: the type of the provider, and so the field, is not known here",
    )
    assert "there is no credential resolver of that name" in str(found["key (late.vllm_api_token)"])
    assert found["resolver (safe)"] == ("ok", "answers; asked 1 times")
    assert found["resolver (broken)"][0] == "failed"
    assert "raised RuntimeError" in found["resolver (broken)"][1]
    assert found["resolver (idle)"][0] == "warning"
    shown = run("check", "--config", str(file))
    assert SECRET not in f"{findings} {shown.output} {caplog.text}"
    assert status() == ()


def test_the_stack_says_which_field_a_resolver_is_asked_for() -> None:
    """Of each provider of a type, and of one whose entry names no field."""
    config = configuration_from_mapping(
        {
            "credential_resolvers": [{"name": "safe", "use": "resolvers_of_check:Safe"}],
            "provider_credentials": [
                {"provider_id": "rhoai", "source": {"plugin": "safe"}},
                {"provider_type": "vllm", "source": {"plugin": "safe"}},
            ],
        },
        environ={},
    )
    providers = {"rhoai": "remote::vllm", "rhelai": "remote::vllm", "o": "remote::openai"}
    manager = AzureEntraIDManager.isolated()
    with configured(config.credential_resolvers):
        found = list(check_keys(config, manager, providers, "llama-stack"))
    assert [each.state for each in found] == ["ok"] * 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "credential_resolvers:\n  - name: valut\n",
            (
                ":4: credential_resolvers[0].name: there is no such resolver; write one of keyvault, "
                'vault, or use: "package.module:Class"'
            ),
        ),
        (
            "credential_resolvers:\n  - name: mine\n    use: secret-store\n",
            ":5: credential_resolvers[0].use: there is no such resolver; ",
        ),
        (
            (
                'credential_resolvers:\n  - {name: safe, use: "resolvers_of_check:Safe"}\n'
                "provider_credentials:\n  - provider_id: rhoai\n    source:\n      plugin: saef\n"
            ),
            "provider_credentials[0].source.plugin: there is no such resolver; did you mean safe?",
        ),
        (
            (
                'credential_resolvers:\n  - {name: safe, use: "a.b:C", enabled: false}\n'
                "provider_credentials:\n  - provider_id: rhoai\n    source:\n      plugin: safe\n"
            ),
            "source.plugin: is a resolver that is switched off; remove its enabled: false",
        ),
    ],
)
def test_a_resolver_that_is_not_there_is_told_by_the_file(
    tmp_path: Path, text: str, problem: str
) -> None:
    """With its line, before anything starts; `check` says the same, with exit code 2."""
    file = written(tmp_path, text)
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert problem in str(caught.value)
    assert check(file)[0] == 2


BROKEN = """\
raise RuntimeError("sk-live-4242")
"""


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            '{name: a, use: "resolvers_of_chek:Safe"}',
            (
                "use: cannot be imported: No module named 'resolvers_of_chek'; install its package, "
                "or correct the name"
            ),
        ),
        (
            '{name: a, use: "resolvers_of_check.x:Safe"}',
            (
                "use: cannot be imported: No module named 'resolvers_of_check.x'; "
                "'resolvers_of_check' is not a package; install its package, or correct the name"
            ),
        ),
        (
            '{name: a, use: "broken_of_check:Safe"}',
            (
                "use: cannot be imported: broken_of_check raises RuntimeError; import it in Python "
                "to see why"
            ),
        ),
        (
            '{name: a, use: "resolvers_of_check:Saef"}',
            "use: there is no Saef in resolvers_of_check; did you mean Safe?",
        ),
        (
            '{name: a, use: "resolvers_of_check:Zzzzzz"}',
            "use: there is no Zzzzzz in resolvers_of_check; correct the name",
        ),
        (
            '{name: a, use: "resolvers_of_check:NUMBER"}',
            "use: is neither a class, nor a function, nor an object with before() or after(); correct it",
        ),
        (
            '{name: a, use: "resolvers_of_check:function", options: {folder: x}}',
            "options: are for a class; this resolver is made already",
        ),
        (
            '{name: a, use: "resolvers_of_check:Folder", options: {floder: x, folder: y}}',
            "options.floder: there is no such key; did you mean folder?",
        ),
        (
            '{name: a, use: "resolvers_of_check:Folder"}',
            "options: lack folder, which the resolver needs; add it",
        ),
    ],
)
def test_a_resolver_that_leads_nowhere_is_refused_at_start(
    tmp_path: Path, item: str, problem: str
) -> None:
    """No such module, class or option: by whatever reads the file, with its line; `check` too."""
    (tmp_path / "broken_of_check.py").write_text(BROKEN)
    file = written(tmp_path, f"credential_resolvers:\n  - {item}\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        load_configuration(file, environ={})
    assert str(caught.value) == f"{file}:4: credential_resolvers[0].{problem}"
    code, findings = check(file)
    assert (code, [each["found"] for each in findings["configuration"]]) == (
        2,
        [str(caught.value).rpartition("; ")[0]],
    )


def test_a_resolver_that_leads_somewhere_is_taken(tmp_path: Path) -> None:
    """A class with the options that it takes, one that takes any, a function, one that is off."""
    file = written(
        tmp_path,
        """\
credential_resolvers:
  - {name: a, use: "resolvers_of_check:Safe"}
  - {name: b, use: "resolvers_of_check:Folder", options: {folder: x}}
  - {name: c, use: "resolvers_of_check:Anything", options: {x: y}}
  - {name: d, use: "resolvers_of_check:function"}
  - {name: e, use: "resolvers_of_check:ready"}
  - {name: f, use: "no_such_package:Safe", enabled: false}
""",
    )
    assert len(load_configuration(file, environ={}).credential_resolvers) == 6
