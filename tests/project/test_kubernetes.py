"""The manifests of examples/kubernetes, rendered by kustomize: valid, restricted, and all of a piece."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kustomize_program import (
    DIGEST,
    KUBERNETES,
    ROOT,
    container,
    environment,
    objects,
    one,
    overlay,
    programs,
    rendered,
    verify,
)
from pod_rules import broken_restrictions, containers, lost_ends, pods

OVERLAYS = ("aks", "kind", "openshift")
PROVIDERS = ("openai", "gemini", "anthropic", "bedrock", "generic")
JWT = ("OIDC_ISSUER=https://issuer.test/realms/x", "OIDC_AUDIENCE=llm")
OWN = ("MODEL=azure/gpt-4o-mini", "EXTERNAL_URL=https://llm.test")
AZURE = ("AZURE_API_BASE=https://x.openai.azure.com/openai/v1", "AZURE_DEPLOYMENT=gpt-4o-mini")

COMBINATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "secret": (
        ("provider-azure", "identity-secret", "inbound-api-keys", "stack-plain-http"),
        AZURE,
    ),
    "federated": (
        ("provider-azure", "identity-federated", "inbound-jwt", "ingress", "monitoring"),
        (*AZURE, *JWT),
    ),
    "workload": (
        ("provider-azure", "identity-workload", "inbound-jwt", "cert-manager"),
        (*AZURE, *JWT),
    ),
    "ogx-postgres": (
        ("provider-azure", "identity-federated", "inbound-jwt", "cert-manager", "ogx", "postgres"),
        (*AZURE, *JWT, "POSTGRES_HOST=db.test"),
    ),
    "everything": (
        (
            *(f"provider-{each}" for each in ("azure", *PROVIDERS)),
            *("identity-secret", "inbound-jwt", "postgres", "ingress", "monitoring"),
        ),
        (*AZURE, *JWT, "GENERIC_BASE_URL=https://models.test/v1"),
    ),
    **{
        each: (
            (f"provider-{each}", "inbound-api-keys"),
            (f"MODEL={each}/a-model", "GENERIC_BASE_URL=https://models.test/v1"),
        )
        for each in PROVIDERS
    },
}


@pytest.fixture(scope="session")
def combined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each combination of components renders to, with an operator's own values."""
    return {
        name: rendered(
            overlay(tmp_path_factory.mktemp(name), *components, settings=[*OWN, *settings])
        )
        for name, (components, settings) in COMBINATIONS.items()
    }


@pytest.fixture(params=[*OVERLAYS, *COMBINATIONS])
def text(request: pytest.FixtureRequest, combined: dict[str, str]) -> str:
    """The overlays as they are, and each combination."""
    name = request.param
    return rendered(KUBERNETES / "overlays" / name) if name in OVERLAYS else combined[name]


def test_every_component_is_in_a_combination() -> None:
    """No component goes untested."""
    used = {each for components, _ in COMBINATIONS.values() for each in components}
    assert used == {each.name for each in (KUBERNETES / "components").iterdir()}


def test_kubernetes_takes_every_object(text: str) -> None:
    """Each object fits Kubernetes' schema, with no key too many, on an old and the newest version."""
    for each in objects(text):
        if each["kind"] not in ("Route", "Certificate", "Issuer"):
            for version in ("1.30", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(each, version, strict=True)


def test_the_schema_refuses_what_is_misspelt() -> None:
    """The check above can fail: one key wrong, and it does."""
    broken = one(rendered(KUBERNETES / "overlays" / "kind"), "Deployment", "llm-proxy")
    broken["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.30", strict=True)


def test_pods_are_restricted(text: str) -> None:
    """No pod may do more than `restricted` says, write to its root, or hold a token of the cluster's."""
    assert list(broken_restrictions(objects(text))) == []


def test_every_end_meets_another(text: str) -> None:
    """Services, policies, probes, mounts, accounts and claims name what is there."""
    assert list(lost_ends(objects(text))) == []


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "llm-proxy: runAsNonRoot"),
        (lambda pod: pod.pop("automountServiceAccountToken"), "automountServiceAccountToken"),
        (lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "capabilities"),
        (lambda pod: pod["containers"][0].update(securityContext={"privileged": True}), "privile"),
        (lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume x"),
        (lambda pod: pod["containers"][0]["ports"][0].update(name="web"), "port http"),
        (
            lambda pod: pod["volumes"].append({"name": "x", "configMap": {"name": "other"}}),
            "ConfigMap other",
        ),
        (lambda pod: pod.update(serviceAccountName="other"), "account other"),
    ],
)
def test_the_rules_see_what_is_broken(spoil: object, found: str) -> None:
    """Each rule can fail: with one thing spoilt, it is named."""
    documents = objects(rendered(KUBERNETES / "overlays" / "kind"))
    assert callable(spoil)
    spoil(next(spec for name, _, spec in pods(documents) if name == "llm-proxy"))
    assert any(found in each for each in [*broken_restrictions(documents), *lost_ends(documents)])


def test_every_kustomize_renders_the_same() -> None:
    """An old and a new kustomize agree, where both are here."""
    for name in OVERLAYS:
        texts = {rendered(KUBERNETES / "overlays" / name, program) for program in programs()}
        assert len(texts) == 1


def test_only_the_proxy_reaches_the_stack(text: str) -> None:
    """All traffic of ours is refused, but what a policy allows; to the stack, that is the proxy's."""
    policies = [each["spec"] for each in objects(text) if each["kind"] == "NetworkPolicy"]
    labels = {name: labels for name, labels, _ in pods(objects(text))}
    closed = [each for each in policies if not each.get("ingress") and not each.get("egress")]
    assert [each["policyTypes"] for each in closed] == [["Ingress", "Egress"]]
    for pod in labels.values():
        assert closed[0]["podSelector"]["matchLabels"].items() <= pod.items()
    ways = [
        rule
        for each in policies
        if each["podSelector"]["matchLabels"].items() <= labels["llama-stack"].items()
        for rule in each.get("ingress", ())
    ]
    assert len(ways) == 1
    (source,) = ways[0]["from"]
    assert source.keys() == {"podSelector"}
    reached = [
        name
        for name in labels
        if source["podSelector"]["matchLabels"].items() <= labels[name].items()
    ]
    assert reached == ["llm-proxy"]


def test_the_metadata_of_machines_is_out_of_reach(text: str) -> None:
    """No pod can ask the node's own identity for a token."""
    blocks = [
        target["ipBlock"]
        for each in objects(text)
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"].get("egress", ())
        for target in rule.get("to", ())
        if "ipBlock" in target and target["ipBlock"]["cidr"] == "0.0.0.0/0"
    ]
    assert blocks
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_probes_are_those_of_the_programs(text: str) -> None:
    """The stack has five minutes for its start; each program is asked where it answers."""
    stack, proxy = container(text, "llama-stack", "stack"), container(text, "llm-proxy", "proxy")
    start = stack["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 300
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    assert [stack[probe]["httpGet"]["path"] for probe in probes] == ["/v1/health"] * 3
    paths = [proxy[probe]["httpGet"]["path"] for probe in probes]
    assert paths == ["/startupz", "/readyz", "/livez"]
    scheme = {stack[probe]["httpGet"].get("scheme", "HTTP") for probe in probes}
    assert scheme == (
        {"HTTPS"}
        if environment(text, "llm-proxy", "proxy")["LLAMA_STACK_SCHEME"] == "https"
        else {"HTTP"}
    )


def test_the_proxy_trusts_only_the_stacks_authority(text: str) -> None:
    """The proxy checks the stack's certificate and never sees its key, unless it uses plain HTTP."""
    found = environment(text, "llm-proxy", "proxy")
    volumes = {
        volume["name"]: volume
        for name in ("llm-proxy", "llama-stack")
        for volume in one(text, "Deployment", name)["spec"]["template"]["spec"]["volumes"]
    }
    if found["LLAMA_STACK_SCHEME"] == "http":
        assert found["LLAMA_STACK_ALLOW_INSECURE"] == "true"
        assert "LLAMA_STACK_CA_BUNDLE" not in found
        assert volumes.keys().isdisjoint({"tls", "stack-ca"})
        return
    assert "LLAMA_STACK_ALLOW_INSECURE" not in found
    assert found["LLAMA_STACK_CA_BUNDLE"] == "/etc/llama-stack-ca/ca.crt"
    items = (volumes["stack-ca"].get("secret") or volumes["stack-ca"]["configMap"])["items"]
    assert [item["path"] for item in items] == ["ca.crt"]
    assert [item["path"] for item in volumes["tls"]["secret"]["items"]] == ["tls.crt", "tls.key"]


def test_plain_http_is_a_component_that_one_lists(combined: dict[str, str]) -> None:
    """Without it every overlay and combination uses TLS; with it verify.py says so."""
    texts = combined | {name: rendered(KUBERNETES / "overlays" / name) for name in OVERLAYS}
    plain = {
        name
        for name, text in texts.items()
        if environment(text, "llm-proxy", "proxy")["LLAMA_STACK_SCHEME"] != "https"
    }
    listing = {name for name, (used, _) in COMBINATIONS.items() if "stack-plain-http" in used}
    assert plain == listing | {"kind"}
    said = "! tokens go to the stack over plain HTTP: components/stack-plain-http\n"
    assert {name for name, text in texts.items() if said in verify(text)[1]} == plain


@pytest.mark.parametrize("prefix", ["", "team-"])
def test_cert_manager_issues_what_the_pods_mount(prefix: str, tmp_path: Path) -> None:
    """The certificate is for the name that the proxy asks for; its authority is the mounted one."""
    components, settings = COMBINATIONS["workload"]
    text = rendered(overlay(tmp_path, *components, settings=[*OWN, *settings], prefix=prefix))
    leaf = one(text, "Certificate", f"{prefix}llama-stack-tls")["spec"]
    authority = one(text, "Certificate", f"{prefix}llama-stack-ca")["spec"]
    signing = one(text, "Issuer", f"{prefix}llama-stack-ca")
    root = one(text, "Issuer", f"{prefix}llama-stack-root")
    url = environment(text, f"{prefix}llm-proxy", "proxy")["LLAMA_STACK_URL"]
    assert [f"https://{name}:8321" for name in leaf["dnsNames"]] == [url]
    assert leaf["issuerRef"]["name"] == signing["metadata"]["name"]
    assert signing["spec"] == {"ca": {"secretName": authority["secretName"]}}
    assert authority["isCA"] is True
    assert authority["issuerRef"]["name"] == root["metadata"]["name"]
    assert root["spec"] == {"selfSigned": {}}
    mounted = {
        volume["secret"]["secretName"]
        for _, _, spec in pods(objects(text))
        for volume in spec["volumes"]
        if "secret" in volume
    }
    assert mounted == {leaf["secretName"]} == {f"{prefix}llama-stack-tls"}
    assert verify(text)[0] == 0, verify(text)[1]
    assert "llama-stack-tls" not in verify(text)[1], "cert-manager makes that Secret"


def test_a_certificate_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """verify.py names a certificate for another host, and one that no pod mounts."""
    components, settings = COMBINATIONS["workload"]
    findings = []
    for more in ([], ["stack-plain-http"]):
        folder = tmp_path / str(len(more))
        folder.mkdir()
        own = overlay(folder, *components, *more, settings=[*OWN, *settings])
        document = yaml.safe_load((own / "kustomization.yaml").read_text())
        document["transformers"] = document["transformers"][:1]
        (own / "kustomization.yaml").write_text(yaml.safe_dump(document))
        code, said = verify(rendered(own))
        assert code == 1
        findings.append([line for line in said.splitlines() if line.startswith("✗")])
    other_host = (
        "✗ Certificate llama-stack-tls: is not for llama-stack.llm.svc; set a namespace, and list"
        " components/cert-manager/wiring under transformers"
    )
    not_mounted = (
        "✗ Certificate llama-stack-tls: no pod mounts its Secret llama-stack-tls; keep one of"
        " components/cert-manager and components/stack-plain-http"
    )
    assert findings == [[other_host], [not_mounted, other_host]]


def two_installations(folder: Path, *, wired: bool) -> str:
    """Return what two installations with a prefix each render to, in one namespace."""
    components, settings = COMBINATIONS["everything"]
    home = folder / "both"
    home.mkdir()
    names = ("one-", "two-")
    for name in names:
        (folder / name).mkdir()
        own = overlay(
            folder / name, *components, settings=[*OWN, *settings], prefix=name if wired else ""
        )
        if not wired:  # a prefix around it, without the wiring
            (folder / name / "kustomization.yaml").write_text(
                yaml.safe_dump({"namePrefix": name, "resources": [own.name]})
            )
    inner = [f"../{name}/own" if wired else f"../{name}" for name in names]
    (home / "kustomization.yaml").write_text(yaml.safe_dump({"resources": inner}))
    return rendered(home)


def test_two_installations_select_their_own_pods(tmp_path: Path) -> None:
    """In one namespace no Service, policy, budget or Deployment of one selects a pod of the other."""
    text = two_installations(tmp_path, wired=True)
    labels = {name: labels for name, labels, _ in pods(objects(text))}
    assert len(labels) == 4
    checked = 0
    for each in objects(text):
        prefix = each["metadata"]["name"][:4]
        for selector in selectors(each.get("spec")):
            chosen = {name for name in labels if selector.items() <= labels[name].items()}
            assert {name[:4] for name in chosen} == {prefix}, each["metadata"]["name"]
            checked += 1
    assert checked == 2 * 15
    assert verify(text)[0] == 0, verify(text)[1]


def test_installations_that_share_selectors_are_named(tmp_path: Path) -> None:
    """verify.py sees a prefix without an instance, equal labels, and a selector without an instance."""
    said = verify(two_installations(tmp_path, wired=False))
    wiring = (
        "has the labels of an installation without a prefix; list wiring under transformers of the"
        " kustomization that has the prefix"
    )
    same = "have the same labels; give each its own app.kubernetes.io/instance"
    assert said[0] == 1
    for line in (
        f"✗ Deployment one-llm-proxy: {wiring}\n",
        f"✗ Deployment two-llama-stack: {wiring}\n",
        f"✗ Deployments one-llama-stack and two-llama-stack {same}\n",
        f"✗ Deployments one-llm-proxy and two-llm-proxy {same}\n",
    ):
        assert line in said[1]
    text = rendered(KUBERNETES / "overlays" / "aks")
    without = text.replace("    app.kubernetes.io/instance: llm-proxy\n", "", 1)
    assert text != without
    assert (
        "✗ Service llama-stack: selects the pods of every installation; add the label"
        " app.kubernetes.io/instance to its selectors\n"
    ) in verify(without)[1]


def selectors(value: object) -> Iterator[dict[str, str]]:
    """Yield the labels by which a spec selects pods of ours."""
    if isinstance(value, list):
        for each in value:
            yield from selectors(each)
    elif isinstance(value, dict):
        if "app.kubernetes.io/part-of" in value:
            yield value
        for key, below in value.items():
            yield from selectors(None if key == "metadata" else below)


def test_no_secret_is_in_the_manifests(text: str) -> None:
    """Secrets are named, never written."""
    assert "kind: Secret" not in text
    for _, each in containers(objects(text)):
        for variable in each.get("env", ()):
            if re.search(r"(KEY|PASSWORD|TOKEN|SECRET)$", variable["name"]) and "value" in variable:
                assert variable["value"].startswith("/"), variable["name"]


def test_every_secret_is_documented(text: str) -> None:
    """The page on deployment names each Secret that a pod needs, and its keys."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    for line in re.findall(r"needs Secret (.*)", verify(text)[1]):
        name, _, keys = line.partition(": ")
        for word in [name, *(key for key in keys.split(", ") if " " not in key)]:
            assert f"`{word}`" in page, f"docs/deployment.md does not name {word}"


def test_own_values_leave_nothing_to_find(combined: dict[str, str]) -> None:
    """With an operator's image and settings, verify.py has nothing to say."""
    for name, text in combined.items():
        assert verify(text)[0] == 0, f"{name}: {verify(text)[1]}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_still_the_examples_is_named(name: str) -> None:
    """An overlay as it is here is refused for its image and its example values, and for these alone."""
    code, said = verify(rendered(KUBERNETES / "overlays" / name))
    assert code == 1
    lines = [line for line in said.splitlines() if line.startswith("✗")]
    assert any("is not set; give newName and digest" in line for line in lines)
    assert all("is not set" in line or "still the example's" in line for line in lines), said


def test_the_client_is_told_a_model_of_a_provider(combined: dict[str, str]) -> None:
    """The clients' ConfigMap keeps its name, and holds the model and the URL, scheme and all."""
    client = one(combined["federated"], "ConfigMap", "llm-proxy-client")
    assert client["metadata"]["name"] == "llm-proxy-client"
    told = json.loads(client["data"]["config.json"])
    assert told == {"model": "azure/gpt-4o-mini", "base_url": "https://llm.test/v1"}
    assert {name: client["data"][name] for name in told} == told


@pytest.mark.parametrize("model", ["openai/null", "openai/gpt-4o", "gpt-4o-mini", "azure/", ""])
def test_no_client_is_told_a_model_that_is_not_there(model: str, tmp_path: Path) -> None:
    """A missing provider or model is an error, never a default."""
    components, settings = COMBINATIONS["secret"]
    own = overlay(tmp_path, *components, settings=[*settings, f"MODEL={model}", OWN[1]])
    code, said = verify(rendered(own))
    assert code == 1
    assert "is no <provider_id>/<model>; providers: azure" in said


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("MODEL=azure/gpt-4.1", "azure has no model gpt-4.1; run.yaml registers: gpt-4o-mini"),
        ("AZURE_DEPLOYMENT=gpt-5", "azure has no model gpt-4o-mini; run.yaml registers: gpt-5"),
        ("EXTERNAL_URL=https://llm.test/", "write scheme and host alone"),
        ("EXTERNAL_URL=https://llm.test/v1", "write scheme and host alone"),
        ("EXTERNAL_URL=http:/llm.test/x", "write scheme and host alone"),
    ],
)
def test_settings_that_do_not_fit_are_named(setting: str, words: str, tmp_path: Path) -> None:
    """Azure's models are those that are registered, and `/v1` is put to the URL by itself."""
    components, settings = COMBINATIONS["secret"]
    code, said = verify(
        rendered(overlay(tmp_path, *components, settings=[*OWN, *settings, setting]))
    )
    assert code == 1
    assert words in said


def test_the_secrets_to_make_are_listed(combined: dict[str, str]) -> None:
    """The Ingress' certificate is among them; what OpenShift writes itself is not."""
    listed = {
        name: re.findall(r"needs Secret (.*)", verify(text)[1])
        for name, text in {
            **combined,
            "openshift": rendered(KUBERNETES / "overlays" / "openshift"),
        }.items()
    }
    assert listed["secret"] == [
        "llm-proxy-api-keys: api_keys",
        "azure-entra-id: client_secret",
    ]
    assert listed["federated"] == [
        "llm-proxy-ingress-tls: tls.crt, tls.key",
        "llama-stack-tls: ca.crt, tls.crt, tls.key",
    ]
    assert listed["openshift"] == []
    assert "llama-stack-tls: ca.crt, tls.crt, tls.key" in listed["everything"]


@pytest.mark.parametrize(
    ("components", "words"),
    [
        (("provider-azure", "identity-secret"), "anybody may call"),
        (("provider-azure", "inbound-api-keys"), "no way to sign in"),
        (("provider-azure", "identity-secret", "inbound-jwt"), "OIDC_ISSUER is missing"),
    ],
)
def test_a_missing_component_is_named(
    components: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """Nobody spends tokens unasked, and nobody finds out at the first request."""
    code, said = verify(rendered(overlay(tmp_path, *components, settings=[*OWN, *AZURE])))
    assert code == 1
    assert words in said


@pytest.mark.parametrize(
    ("components", "finding"),
    [
        (
            ("identity-workload", "identity-secret", "inbound-jwt"),
            (
                "llm-proxy: signs in to Entra ID by identity-workload and identity-secret; keep one of"
                " these components"
            ),
        ),
        (
            ("identity-federated", "identity-secret", "inbound-jwt"),
            (
                "llm-proxy: signs in to Entra ID by identity-federated and identity-secret; keep one of"
                " these components"
            ),
        ),
        (
            ("identity-workload", "identity-federated", "inbound-jwt"),
            (
                "llm-proxy: signs in to Entra ID by identity-workload and identity-federated; keep one"
                " of these components"
            ),
        ),
        (
            ("identity-secret", "inbound-api-keys", "inbound-jwt"),
            (
                "llm-proxy: INBOUND is jwt, and API_KEYS_FILE is set too; keep one of"
                " components/inbound-*"
            ),
        ),
        (
            ("identity-secret", "inbound-jwt", "inbound-api-keys"),
            (
                "llm-proxy: INBOUND is api_keys, and OIDC_ISSUER is set too; keep one of"
                " components/inbound-*"
            ),
        ),
    ],
)
def test_components_that_exclude_each_other_are_named(
    components: tuple[str, ...], finding: str, tmp_path: Path
) -> None:
    """The proxy would refuse its configuration at start."""
    own = overlay(tmp_path, "provider-azure", *components, settings=[*OWN, *AZURE, *JWT])
    code, said = verify(rendered(own))
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("✗")] == [f"✗ {finding}"]


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (
            'MODEL="azure/gpt-4o-mini"',
            "settings: MODEL is in quotes, and they are part of the value; remove them",
        ),
        (
            "EXTERNAL_URL='https://llm.test'",
            "settings: EXTERNAL_URL is in quotes, and they are part of the value; remove them",
        ),
        (
            "AZURE_DEPLOYMENT=gpt-4o-mini # the deployment",
            (
                "settings: AZURE_DEPLOYMENT ends in a space or a comment, and it is part of the value;"
                " remove it"
            ),
        ),
        (
            "AZURE_TENANT_ID=t ",
            (
                "settings: AZURE_TENANT_ID ends in a space or a comment, and it is part of the value;"
                " remove it"
            ),
        ),
    ],
)
def test_what_is_no_part_of_a_setting_is_named(line: str, finding: str, tmp_path: Path) -> None:
    """A file of settings is not a shell script: kustomize keeps quotes and comments."""
    components, settings = COMBINATIONS["secret"]
    more = "configMapGenerator: [{name: settings, behavior: merge, envs: [settings.env]}]"
    own = overlay(tmp_path, *components, more=more)
    values = {each.partition("=")[0]: each for each in [*OWN, *settings, line]}
    (own / "settings.env").write_text("\n".join(values.values()) + "\n")
    code, said = verify(rendered(own))
    assert code == 1
    assert f"✗ {finding}\n" in said
    assert "no rendered manifests" not in said
    not_json = (
        "client: config.json is not JSON; remove quotes and backslashes from MODEL and EXTERNAL_URL"
    )
    assert (f"✗ {not_json}\n" in said) == line.startswith("MODEL")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("env.OPENAI_API_KEY:=", "env.GEMINI_API_KEY:=", "openai and gemini share GEMINI_API_KEY"),
        (":+generic}", ":+azure-openai}", "azure-openai must come from AZURE_OPENAI_API_KEY"),
        (
            "name: OPENAI_API_KEY\n          valueFrom",
            "name: GEMINI_API_KEY\n          valueFrom",
            "2 times",
        ),
        ("STORAGE: postgres", "STORAGE: sqlite", "cannot share SQLite"),
        ("name: AZURE_PROVIDER_ID", "name: AZURE_PASSWORD", "stands in the manifest"),
        (f"mine@{DIGEST}", "mine:latest", "image mine:latest is not set"),
        (f"mine@{DIGEST}", f"mine:1.0@{DIGEST[:-1]}", "is not set"),
        (f"mine@{DIGEST}", "mine@sha256:" + "0" * 64, "is not set"),
        (
            "mountPath: /var/run/secrets/azure-entra-id\n",
            "mountPath: /x\n          subPath: y\n",
            "by subPath",
        ),
    ],
)
def test_a_collision_is_named(combined: dict[str, str], old: str, new: str, words: str) -> None:
    """What would overwrite, leak, or never change is said before a cluster has it."""
    text = combined["everything"].replace("replicas: 1\n", "replicas: 2\n")
    assert verify(text)[0] == 0
    assert old in text
    code, said = verify(text.replace(old, new))
    assert code == 1
    assert words in said


@pytest.mark.parametrize("text", ["", "nonsense", "a: [", "- 1\n", "kind: Deployment\n"])
def test_what_is_no_rendering_is_said(text: str) -> None:
    """Bad input is 2, without a traceback."""
    assert verify(text)[0] == 2


def test_key_variables_follow_from_the_providers(combined: dict[str, str]) -> None:
    """Each component sets the variable that its provider's name gives; no two the same."""
    stack = container(combined["everything"], "llama-stack", "stack")
    keys = {each["name"] for each in stack["env"] if each["name"].endswith("_API_KEY")}
    assert keys == {f"{each.upper()}_API_KEY" for each in PROVIDERS}
    naming = pytest.importorskip("lightspeed_azure.keys.api_key")
    assert keys == {naming.environment_name(each) for each in PROVIDERS}
    spec = importlib.util.spec_from_file_location("verify", KUBERNETES / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    verifying = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verifying)
    for name in ("azure-openai", "a.b--c", "9-lives", "Azure_OpenAI"):
        assert verifying.environment_name(name) == naming.environment_name(name)


def test_configuration_rolls_pods_and_rotation_does_not(tmp_path: Path) -> None:
    """A changed setting changes the pods; a changed secret, from the operator's own file, does not."""
    components, settings = COMBINATIONS["secret"]
    versions = []
    for number, (secret, deployment) in enumerate([("one", "a"), ("two", "a"), ("two", "b")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        own = overlay(
            folder,
            *components,
            settings=[*OWN, *settings, f"AZURE_DEPLOYMENT={deployment}"],
            secrets=["azure-entra-id=client_secret", "llm-proxy-api-keys=api_keys"],
        )
        (own / "client_secret").write_text(secret)
        (own / "api_keys").write_text(secret)
        versions.append(rendered(own))
    first, rotated, changed = [
        [spec for _, _, spec in pods(objects(version))] for version in versions
    ]
    assert versions[0] != versions[1]
    assert first == rotated
    assert all(one_pod != other for one_pod, other in zip(rotated, changed, strict=True))


def test_names_images_replicas_and_resources_are_parameters(tmp_path: Path) -> None:
    """An operator changes each from a kustomization of their own, and all still fits together."""
    components, settings = COMBINATIONS["ogx-postgres"]
    more = """
replicas: [{name: llama-stack, count: 3}, {name: llm-proxy, count: 4}]
patches:
  - target: {kind: Deployment, name: llama-stack}
    patch: |-
      - {op: replace, path: /spec/template/spec/containers/0/resources/limits/memory, value: 8Gi}
"""
    own = overlay(tmp_path, *components, settings=[*OWN, *settings], prefix="team-", more=more)
    text = rendered(own)
    assert list(lost_ends(objects(text))) == []
    assert verify(text)[0] == 0, verify(text)[1]
    assert one(text, "Deployment", "team-llama-stack")["spec"]["replicas"] == 3
    assert environment(text, "team-llm-proxy", "proxy")["LLAMA_STACK_HOST"] == "team-llama-stack"
    stack = container(text, "team-llama-stack", "stack")
    assert stack["image"] == f"mine@{DIGEST}"
    assert stack["resources"]["limits"]["memory"] == "8Gi"
    assert stack["command"][0] == "ogx"


def test_the_stack_of_an_operator_is_where_the_proxy_looks(text: str) -> None:
    """The URL names the stack's Service in this namespace, and the port that it has."""
    service = one(text, "Service", "llama-stack")
    scheme, _, rest = environment(text, "llm-proxy", "proxy")["LLAMA_STACK_URL"].partition("://")
    assert scheme in ("http", "https")
    assert rest == f"{service['metadata']['name']}.llm.svc:{service['spec']['ports'][0]['port']}"


def test_the_image_is_never_a_moving_one(text: str) -> None:
    """Every image is a digest; the examples' own is one that no registry has."""
    for _, each in containers(objects(text)):
        assert re.fullmatch(
            r"(registry\.invalid/lightspeed-azure|mine)@sha256:[0-9a-f]{64}", each["image"]
        )


def test_aks_signs_in_by_workload_identity() -> None:
    """The webhook finds its label and the client's id; nothing else of the cluster's is mounted."""
    text = rendered(KUBERNETES / "overlays" / "aks")
    template = one(text, "Deployment", "llm-proxy")["spec"]["template"]
    assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    account = one(text, "ServiceAccount", "llm-proxy")
    settings = one(text, "ConfigMap", "settings")["data"]
    wanted = {"azure.workload.identity/client-id": settings["AZURE_CLIENT_ID"]}
    assert account["metadata"]["annotations"] == wanted
    stack = one(text, "Deployment", "llama-stack")["spec"]["template"]
    assert "azure.workload.identity/use" not in stack["metadata"]["labels"]


def test_the_projected_token_is_for_entra_alone(combined: dict[str, str]) -> None:
    """Without a webhook the token is projected in words: its audience, an hour, the proxy only."""
    text = combined["federated"]
    sources = [
        (name, source["serviceAccountToken"])
        for name, _, spec in pods(objects(text))
        for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    assert sources == [
        (
            "llm-proxy",
            {
                "audience": "api://AzureADTokenExchange",
                "expirationSeconds": 3600,
                "path": "azure-identity-token",
            },
        )
    ]


def test_openshift_gives_ids_and_certificates_itself() -> None:
    """No user or group id of ours; the Route keeps scheme and path; the service CA is trusted."""
    text = rendered(KUBERNETES / "overlays" / "openshift")
    assert not re.search(r"fsGroup|runAsUser|runAsGroup", text)
    route = one(text, "Route", "llm-proxy")
    assert route["apiVersion"] == "route.openshift.io/v1"
    spec = route["spec"]
    assert spec["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
    assert "path" not in spec, "a path would keep /v1 from the others"
    assert "rewrite-target" not in str(route["metadata"]["annotations"])
    assert (spec["to"]["kind"], spec["to"]["name"]) == ("Service", "llm-proxy")
    ports = one(text, "Service", "llm-proxy")["spec"]["ports"]
    assert spec["port"]["targetPort"] in [port["name"] for port in ports]
    told = json.loads(one(text, "ConfigMap", "llm-proxy-client")["data"]["config.json"])
    assert told["base_url"] == f"https://{spec['host']}/v1"
    service = one(text, "Service", "llama-stack")["metadata"]["annotations"]
    secret = service["service.beta.openshift.io/serving-cert-secret-name"]
    mounted = one(text, "Deployment", "llama-stack")["spec"]["template"]["spec"]["volumes"]
    assert secret in [volume.get("secret", {}).get("secretName") for volume in mounted]


def test_the_ingress_keeps_scheme_and_path() -> None:
    """TLS for the host of the clients' URL, every path as it is, events unbuffered."""
    text = rendered(KUBERNETES / "overlays" / "aks")
    ingress = one(text, "Ingress", "llm-proxy")
    told = json.loads(one(text, "ConfigMap", "llm-proxy-client")["data"]["config.json"])
    (rule,) = ingress["spec"]["rules"]
    assert told["base_url"] == f"https://{rule['host']}/v1"
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    annotations = ingress["metadata"]["annotations"]
    assert not [name for name in annotations if "rewrite" in name]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


def test_namespaces_enforce_what_the_pods_keep() -> None:
    """The cluster refuses whatever would break `restricted` later."""
    for name in OVERLAYS:
        labels = one(rendered(KUBERNETES / "overlays" / name), "Namespace", "llm")["metadata"][
            "labels"
        ]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_here_is_yaml_that_says_what_it_is_for() -> None:
    """Each kustomization begins with a sentence about itself."""
    for file in KUBERNETES.rglob("kustomization.yaml"):
        assert file.read_text().startswith("# "), file
        assert yaml.safe_load(file.read_text())["kind"] in ("Kustomization", "Component")
