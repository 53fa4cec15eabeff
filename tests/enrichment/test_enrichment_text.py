"""Enriching a text: what is not Azure's stays to the byte, however the file is written."""

import difflib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ogx_environment import ogx_distributions

from lightspeed_azure import InvalidConfigurationError
from lightspeed_azure.enrichment import Enriched, enrich_text


def run(text: str, **options: Any) -> Enriched:
    """Enrich a text for one identity that serves every provider."""
    return enrich_text(text, "run.yaml", [None], **options)


def changed_lines(outcome: Enriched) -> list[str]:
    """Return the lines that were removed and added, without their place."""
    lines = difflib.unified_diff(
        outcome.before.splitlines(), outcome.after.splitlines(), n=0, lineterm=""
    )
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def distributions() -> list[Path]:
    """Return every YAML file that ships inside the installed llama-stack."""
    spec = importlib.util.find_spec("llama_stack")
    assert spec is not None
    assert spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).rglob("distributions/**/*.yaml"))


def check_distribution(text: str, name: str) -> int:
    """Check that only Azure's lines of a distribution differ; return how many were added."""
    outcome = enrich_text(text, name, [None])
    lines = changed_lines(outcome)
    assert all(re.fullmatch(r"\+ +model_validation: false", line) for line in lines), lines
    before, after = yaml.safe_load(text), yaml.safe_load(outcome.after)
    for provider in (after.get("providers") or {}).get("inference") or ():
        if provider["provider_type"] == "remote::azure":
            assert provider["config"].pop("model_validation") is False
    assert after == before
    assert enrich_text(outcome.after, name, [None]).after == outcome.after
    return len(lines)


def test_every_distribution_of_llama_stack_goes_through() -> None:
    """Whatever the wheel contains: only the Azure provider gets a line."""
    files = distributions()
    assert len(files) > 3
    assert sum(check_distribution(file.read_bytes().decode(), file.name) for file in files) > 0


def test_every_distribution_of_ogx_goes_through() -> None:
    """The same for Llama Stack's successor, from its wheel."""
    files = ogx_distributions()
    assert len(files) > 3
    assert sum(check_distribution(file.read_bytes().decode(), file.name) for file in files) > 0


def provider(config: str, *more: str) -> str:
    """Return a stack's configuration with this `config` of an Azure provider, as YAML."""
    head = "providers:\n  inference:\n  - provider_id: azure\n    provider_type: remote::azure\n"
    return head + config + "".join(more)


BASE = "    config:\n      base_url: https://x.openai.azure.com/openai/v1\n"
OPENAI = "  - provider_id: openai\n    provider_type: remote::openai\n"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("    config:\n      a: 1 # one\n", ["+      model_validation: false"]),
        ("    config: {a: 1}\n", ["-    config: {a: 1}", "+    config: {a: 1, model_validation: false}"]),
        ("    config: {a: 1,}\n", ["-    config: {a: 1,}", "+    config: {a: 1, model_validation: false,}"]),
        ("    config: {}\n", ["-    config: {}", "+    config: {model_validation: false}"]),
        ("    config: # c\n", ["-    config: # c", "+    config: {model_validation: false} # c"]),
        ("    config: ~ # c\n", ["-    config: ~ # c", "+    config: {model_validation: false} # c"]),
        ("", ['+    config: {"model_validation": false}']),
        (
            "    config:\n      model_validation: yes # y\n",
            ["-      model_validation: yes # y", "+      model_validation: false # y"],
        ),
        (
            "    config:\n      model_validation:\n      a: 1\n",
            ["-      model_validation:", "+      model_validation: false"],
        ),
        (
            "    config:\n        a: |\n          text\n\n# after\n",
            ["+        model_validation: false"],
        ),
        ("    config:\n      a:\n      - b\n      - c: d\n", ["+      model_validation: false"]),
        ("    config: &c\n      a: 1\n", ["+      model_validation: false"]),
        ("    config: !!map\n      a: 1\n", ["+      model_validation: false"]),
        ("    config: !!null ~\n", ["-    config: !!null ~", "+    config: {model_validation: false}"]),
        ("    config: !!null\n", ["-    config: !!null", "+    config: {model_validation: false}"]),
        (
            "    config: &c !!null null # c\n",
            ["-    config: &c !!null null # c", "+    config: {model_validation: false} # c"],
        ),
    ],
)  # fmt: skip
def test_the_switch_is_put_where_it_belongs(config: str, expected: list[str]) -> None:
    """Each way to write a `config` gets the switch in its own style; no other line differs."""
    text = provider(config, OPENAI) if "after" not in config else provider(config)
    outcome = run(text)
    assert changed_lines(outcome) == expected
    assert (
        yaml.safe_load(outcome.after)["providers"]["inference"][0]["config"]["model_validation"]
        is False
    )
    assert run(outcome.after).after == outcome.after


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("${env.AZURE_API_KEY}", "${env.AZURE_API_KEY:=}"),
        ("'${env.MY_KEY}'", "'${env.MY_KEY:=}'"),
        ('"${env.AZURE_API_KEY}" # k', '"${env.AZURE_API_KEY:=}" # k'),
    ],
)
def test_a_key_that_is_insisted_on_becomes_optional(written: str, becomes: str) -> None:
    """The quotes and the comment stay; the change is told; `repair=False` leaves it, warned."""
    text = provider(f"{BASE}      api_key: {written}\n")
    outcome = run(text)
    assert f"api_key: {becomes}\n" in outcome.after
    assert any("run.yaml:7" in line and "made optional" in line for line in outcome.changes)
    kept = run(text, repair=False)
    assert changed_lines(kept) == ["+      model_validation: false"]
    assert any("keeps the stack from starting" in line for line in kept.warnings)


@pytest.mark.parametrize("key", ["sk-1", "${env.K:=sk-1}", "${env.K:=}", "${env.K}"])
@pytest.mark.parametrize("style", ["block", "first", "brackets"])
def test_a_key_is_dropped_when_asked(key: str, style: str) -> None:
    """The whole line goes, its comment too; nothing else does."""
    other = "base_url: https://x.openai.azure.com/openai/v1"
    lines = {
        "block": f"    config:\n      {other}\n      api_key: '{key}' # secret\n",
        "first": f"    config:\n      api_key: '{key}' # secret\n      # about it\n      {other}\n",
        "brackets": f"    config: {{api_key: '{key}', base_url: 'https://x'}}\n",
    }
    outcome = run(provider(lines[style], OPENAI), drop_api_key=True)
    config = yaml.safe_load(outcome.after)["providers"]["inference"][0]["config"]
    assert set(config) == {"base_url", "model_validation"}
    assert "secret" not in outcome.after
    assert ("# about it" in outcome.after) is (style == "first")
    assert not any("api_key" in warning for warning in outcome.warnings)
    assert run(outcome.after, drop_api_key=True).changes == ()


def test_only_a_key_left_alone() -> None:
    """A config that held nothing but the key holds nothing but the switch."""
    for config in ("    config: {api_key: x}\n", "    config:\n      api_key: x\n"):
        outcome = run(provider(config, OPENAI), drop_api_key=True)
        first = yaml.safe_load(outcome.after)["providers"]["inference"][0]
        assert first["config"] == {"model_validation": False}


SHARED = {
    "azure first": provider(
        "    config: &c\n      base_url: x # here\n\n      api_key: ${env.K}\n", OPENAI, "    config: *c\n"
    ),
    "azure first, brackets": provider(
        "    config: &c {base_url: x, api_key: '${env.K}'}\n", OPENAI, "    config: *c\n"
    ),
    "azure second": "providers:\n  inference:\n"
    + OPENAI
    + "    config: &c\n      base_url: x\n      api_key: ${env.K}\n"
    "  - provider_id: azure\n    provider_type: remote::azure\n    config: *c\n",
    "merged": "x: &c {base_url: x, api_key: '${env.K}'}\n"
    + provider("    config:\n      <<: *c\n", OPENAI, "    config: *c\n"),
    "whole entry": "x-azure: &azure\n  provider_id: azure\n  provider_type: remote::azure\n"
    "  config: {base_url: x, api_key: '${env.K}', n: 3, s: '3'}\n"
    "providers:\n  inference:\n  - *azure\n" + OPENAI + "  tool_runtime: [*azure]\n",
    "merged entry": "x-azure: &azure\n  provider_type: remote::azure\n"
    "  config: {base_url: x, api_key: '${env.K}', n: 3, s: '3'}\n"
    "providers:\n  inference:\n  - <<: *azure\n    provider_id: azure\n" + OPENAI,
}  # fmt: skip


REFUSED = {
    "azure first": "run.yaml:5: providers.inference[0].config: is shared by an alias of its anchor",
    "azure first, brackets": "run.yaml:5: providers.inference[0].config: is shared by an alias of its anchor",
    "azure second": "run.yaml:10: providers.inference[1].config: is an alias",
    "merged": "run.yaml:6: providers.inference[0].config: has a merge key (<<)",
    "whole entry": "run.yaml:6: providers.inference[0]: is an alias",
    "merged entry": "run.yaml:6: providers.inference[0]: has a merge key (<<)",
    "two azure": "run.yaml:5: providers.inference[0].config: is shared by an alias of its anchor",
    "the list": "run.yaml:6: providers.inference: is an alias",
}  # fmt: skip
SHARED["two azure"] = provider(
    "    config: &c\n      base_url: x\n      api_key: ${env.K}\n",
    "  - provider_id: second\n    provider_type: remote::azure\n    config: *c\n",
)
SHARED["the list"] = (
    "x: &list\n- provider_id: azure\n  provider_type: remote::azure\n"
    "  config: {base_url: x, api_key: '${env.K}'}\nproviders:\n  inference: *list\n"
)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("drop", [False, True])
def test_an_alias_or_merge_key_on_an_azure_provider_is_refused(name: str, *, drop: bool) -> None:
    """An edit would change another place or lose what is merged in; the line and key are named."""
    with pytest.raises(InvalidConfigurationError) as caught:
        run(SHARED[name], drop_api_key=drop)
    assert str(caught.value) == f"{REFUSED[name]}; write this provider out in full"


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("drop", [False, True])
def test_with_aliases_expanded_what_is_shared_changes_for_azure_alone(
    name: str, *, drop: bool
) -> None:
    """The parsed content is enriched: each Azure provider changes, and nothing else does."""
    text = SHARED[name]
    outcome = run(text, drop_api_key=drop, expand_aliases=True)
    after, expected = yaml.safe_load(outcome.after), yaml.safe_load(text)
    expected["providers"]["inference"] = [
        enriched_provider(provider, drop=drop) for provider in expected["providers"]["inference"]
    ]
    assert after == expected
    again = run(outcome.after, drop_api_key=drop, expand_aliases=True)
    assert yaml.safe_load(again.after) == after


def enriched_provider(provider: dict[str, Any], *, drop: bool) -> dict[str, Any]:
    """Return what a provider must be after enriching."""
    if provider["provider_type"] != "remote::azure":
        return provider
    config = {**provider["config"], "model_validation": False, "api_key": "${env.K:=}"}
    if drop:
        del config["api_key"]
    return {**provider, "config": config}


def test_an_anchor_elsewhere_stays() -> None:
    """Aliases that do not touch an Azure provider's own block are kept, also at its end."""
    text = provider(
        "    config:\n      base_url: &u https://x/openai/v1\n      list: [*u]\n      other: *u # *no\n",
        OPENAI,
        "    config: {url: *u}\n",
    )
    assert changed_lines(run(text)) == ["+      model_validation: false"]
    text = provider(
        "    config:\n      list:\n      - &u x\n      # *x\n      - *u # *no\n", OPENAI
    )
    assert changed_lines(run(text)) == ["+      model_validation: false"]
    assert "- *u # *no\n      model_validation: false\n" in run(text).after


def test_expanding_aliases_of_aliases_is_bounded() -> None:
    """A file that expands without bound is refused in a short time."""
    bomb = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(InvalidConfigurationError) as caught:
        run("x0: &x0 y\n" + bomb + provider(BASE), expand_aliases=True)
    assert str(caught.value) == "aliases of aliases expand to more than 4 MiB"


@pytest.mark.parametrize(
    "text", ["|\n        one\n", ">-\n        one\n        two\n", "a\n        b\n"]
)
def test_the_switch_stands_right_behind_what_was_last(text: str) -> None:
    """Also behind a text of several lines; blank lines and comments after it stay after it."""
    before, after = (
        provider(f"    config:\n      note: {text}"),
        "\n\n# about the server\nserver: {}\n",
    )
    assert run(before + after).after == before + "      model_validation: false\n" + after


def test_what_cannot_be_edited_safely_is_refused() -> None:
    """A key shared with another provider is not changed behind its back; line and key are named."""
    text = provider(
        "    config:\n      api_key: &k ${env.K}\n", OPENAI, "    config:\n      api_key: *k\n"
    )
    with pytest.raises(InvalidConfigurationError, match=r"run.yaml:5: providers.inference\[0\]"):
        run(text)


def test_json_stays_json() -> None:
    """JSON in, JSON out, whether indented with spaces, tabs or not at all."""
    data = {
        "providers": {
            "inference": [
                {"provider_id": "a", "provider_type": "remote::azure", "config": {"api_key": "${env.K}"}},
                {"provider_id": "b", "provider_type": "remote::azure", "config": None},
                {"provider_id": "c", "provider_type": "remote::azure", "config": {}},
                {"provider_id": "d", "provider_type": "remote::azure"},
            ]
        }
    }  # fmt: skip
    for indent in (None, 2, "\t"):
        outcome = run(json.dumps(data, indent=indent))
        found = json.loads(outcome.after)["providers"]["inference"]
        assert found[0]["config"] == {"api_key": "${env.K:=}", "model_validation": False}
        assert found[1]["config"] == {"model_validation": False}
        assert found[2]["config"] == found[3]["config"] == {"model_validation": False}


def test_line_ends_and_the_byte_order_mark_stay() -> None:
    """A file from Windows, and one without a line break at its end, stay as they are."""
    text = "\ufeff" + provider(BASE).replace("\n", "\r\n")
    assert run(text).after == text + "      model_validation: false\r\n"
    text = provider(BASE).rstrip("\n")
    assert run(text).after == text + "\n      model_validation: false"


def test_a_registered_model_that_asks_azure_is_put_right() -> None:
    """`model_validation: true` of a model that Azure serves becomes false; another's stays."""
    models = (
        "registered_resources:\n  models:\n"
        "  - {model_id: a, provider_id: azure, model_validation: true}\n"
        "  - {model_id: b, provider_id: openai, model_validation: true}\n"
    )
    outcome = run(provider(BASE, OPENAI, models))
    assert outcome.after.count("model_validation: true") == 1
    assert "provider_id: openai, model_validation: true" in outcome.after


def test_without_entra_id_the_text_stays() -> None:
    """No identity: the same text, and nothing to say."""
    text = provider(f"{BASE}      api_key: ${{env.AZURE_API_KEY}}\n")
    assert enrich_text(text, "run.yaml", []) == Enriched(text, text)


MODELS = "registered_resources:\n  models: [{model_id: m, provider_id: azure}]\n"


@pytest.mark.parametrize(
    ("text", "key", "cure"),
    [
        (provider("    config: {}\n", MODELS), "config", "add https://"),
        (provider("    config: {api_base: https://x}\n", MODELS), "config.api_base", "rename it to base_url"),
        (provider("    config: {base_url: https://x}\n", MODELS), "config.base_url", "write https://"),
        (provider("    config: {base_url: '${env.B}'}\n", MODELS), "config.base_url", "set it to https://"),
        (provider(BASE + "      api_key: sk-1\n", MODELS), "config.api_key", "--drop-api-key"),
        (provider(BASE + "      api_key: ${env.K:=}\n", MODELS), "config.api_key", "leave that unset"),
        (provider(BASE + "      refresh_models: true\n", MODELS), "config.refresh_models", "set it to false"),
        (provider(BASE), "inference[0]", "registered_resources.models"),
        (provider(BASE).replace("provider_id: azure", "provider_id: ${env.AZURE_API_KEY:+azure}") + MODELS,
         "provider_id", "vanishes"),
        (provider(BASE).replace("remote::azure", "${env.AZURE_API_KEY:+remote::azure}") + MODELS,
         "provider_type", "vanishes"),
        (provider(BASE, "  - {provider_id: b, provider_type: remote::azure, config: {base_url: https://x/openai/v1}}\n"),
         "providers.inference", "write azure_entra_id as a list"),
        ("providers: {inference: []}\n", "providers.inference", "nothing to enrich"),
    ],
)  # fmt: skip
def test_each_warning_names_line_and_cure(text: str, key: str, cure: str) -> None:
    """What enriching cannot mend is said, with the key and what to do."""
    found = [line for line in run(text).warnings if f"{key}: " in line and cure in line]
    assert len(found) == 1, run(text).warnings
    assert re.match(r"run\.yaml:\d+: ", found[0])
    assert "sk-1" not in " ".join(run(text).warnings)


def test_vector_stores_with_embeddings_of_azure_are_named() -> None:
    """The line of each embedding model of Azure; none without vector stores, none for others."""
    models = (
        "registered_resources:\n  models:\n"
        "  - {model_id: chat, provider_id: azure}\n"
        "  - {model_id: small, provider_id: azure, model_type: embedding}\n"
        "  - {model_id: local, provider_id: other, model_type: embedding}\n"
    )
    stores = "  vector_io: [{provider_id: faiss, provider_type: 'inline::faiss'}]\n"
    outcome = run(provider(BASE, stores, models))
    text = (
        "run.yaml:11: registered_resources.models[1]: its embeddings get no token in vector stores, so "
        "Azure refuses them; use an embedding model of another provider for vector stores"
    )
    assert outcome.warnings == (text,)
    assert run(provider(BASE, models)).warnings == ()


def test_a_provider_that_is_right_has_no_warning() -> None:
    """The example of the documentation has nothing to be said about."""
    outcome = run(provider(BASE, MODELS))
    assert outcome.warnings == ()


def test_a_provider_without_an_identity_is_named() -> None:
    """Of several identities, each serves one provider; one that none serves gets no token."""
    outcome = enrich_text(provider(BASE, MODELS), "run.yaml", ["other"])
    assert any("[0]: no identity serves this provider" in line for line in outcome.warnings)


def test_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provider, model and identity meet under the name that a variable gives them, here."""
    name = "${env.AZURE_PROVIDER_ID:=__disabled__}"
    text = provider(BASE, MODELS).replace("provider_id: azure", f'provider_id: "{name}"')
    monkeypatch.delenv("AZURE_PROVIDER_ID", raising=False)
    assert enrich_text(text, "run.yaml", [name]).warnings == ()
    monkeypatch.setenv("AZURE_PROVIDER_ID", "my-azure")
    assert enrich_text(text, "run.yaml", [name]).warnings == ()
    assert any("no identity serves" in line for line in enrich_text(text, "f", ["azure"]).warnings)


def test_a_key_of_another_provider_that_keeps_the_stack_down() -> None:
    """Its line is left alone; one note says how it would not need the variable to start."""
    text = """\
version: 2
providers:
  inference:
    - {provider_id: vllm, provider_type: remote::vllm, config: {api_token: "${env.VLLM_TOKEN}"}}
    - {provider_id: "${env.OPENAI_API_KEY:+openai}", provider_type: remote::openai, config: {api_key: "${env.OPENAI_API_KEY}"}}
    - {provider_id: groq, provider_type: remote::groq, config: {api_key: "${env.GROQ_API_KEY:=}"}}
    - {provider_id: azure, provider_type: remote::azure, config: {base_url: "https://x.openai.azure.com/openai/v1"}}
"""
    outcome = run(text)
    assert "VLLM_TOKEN}" in outcome.after
    found = [line for line in outcome.warnings if "keeps the stack from starting" in line]
    assert len(found) == 1
    assert "providers.inference[0].config.api_token" in found[0]
    assert "${env.VLLM_TOKEN:=}" in found[0]
