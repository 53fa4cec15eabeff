"""Find mistakes in rendered manifests without a cluster.

    kubectl kustomize overlays/mine | python verify.py

Prints one line for each finding, and the Secrets that must exist. Exit codes: 0 nothing found, 1
findings, 2 the input is not Kubernetes YAML. Needs Python 3.12 and lightspeed-azure's packages.
"""

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML, YAMLError

EXAMPLES = ("unset", "example.com", "my-resource.", "1111-1111", "2222-2222", "3333-3333")
"""What stands in the overlays where values of the operator's own belong."""

CREDENTIAL = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET|CREDENTIALS?)$")
DISABLED = "__disabled__"
SERVING_CERTIFICATE = "service.beta.openshift.io/serving-cert-secret-name"
INSTANCE = "app.kubernetes.io/instance"
NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
REFERENCE = re.compile(r"\$\{env\.([A-Z0-9_]+)(?::([=+])([^}]*))?\}")

type Object = Mapping[str, Any]


class Rendered:
    """The objects of one rendering, and the pods that they make.

    Args:
        objects: the documents of `kustomize build`.
    """

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects
        self.pods = [(each, each["spec"]["template"]) for each in self.all("Deployment")]

    def all(self, kind: str) -> list[Object]:
        """Return the objects of one kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Yield where each container is, the container, and its pod's spec."""
        for owner, pod in self.pods:
            spec = pod["spec"]
            for container in [*spec.get("initContainers", ()), *spec["containers"]]:
                yield f"{owner['metadata']['name']}: {container['name']}", container, spec

    def settings(self) -> Object:
        """Return the settings, which are environment of every container."""
        found = [each for each in self.all("ConfigMap") if base_name(each).endswith("settings")]
        return found[0].get("data", {}) if found else {}

    def environment(self, container: Object) -> dict[str, str]:
        """Return a container's variables; one from a Secret is `<secret>`."""
        own = {each["name"]: each.get("value", "<secret>") for each in container.get("env", ())}
        return {**self.settings(), **own}

    def file(self, name: str) -> str:
        """Return a file out of whichever ConfigMap has it."""
        return next(
            (each["data"][name] for each in self.all("ConfigMap") if name in each.get("data", {})),
            "",
        )

    def named(self, container: str) -> Object:
        """Return the container of that name, or an empty one."""
        return next((each for _, each, _ in self.containers() if each["name"] == container), {})


def base_name(each: Object) -> str:
    """Return a generated object's name without its checksum."""
    return re.sub(r"-[a-z0-9]{10}$", "", str(each["metadata"]["name"]))


def environment_name(service: str) -> str:
    """Return the variable that a service's key is in: `azure-openai` → `AZURE_OPENAI_API_KEY`."""
    text = re.sub(r"[^A-Z0-9]", "_", service.upper())
    return f"{'_' if text[:1].isdigit() else ''}{text}_API_KEY"


def images(rendered: Rendered) -> Iterator[str]:
    """Images are named by digest, and somebody has set it."""
    for where, container, _ in rendered.containers():
        image = container.get("image", "")
        digest = re.search(r"@sha256:([0-9a-f]{64})$", image)
        if not digest or not digest[1].strip("0") or ".invalid/" in image:
            yield f"{where}: image {image} is not set; give newName and digest under images:"


def settings(rendered: Rendered) -> Iterator[str]:
    """No setting is an example's, a credential, or has more in it than its value."""
    for name, value in rendered.settings().items():
        if value[:1] in ("'", '"') or value[-1:] in ("'", '"'):
            yield f"settings: {name} is in quotes, and they are part of the value; remove them"
        elif value != value.strip() or " #" in value:
            yield f"settings: {name} ends in a space or a comment, and it is part of the value; remove it"
        if any(example in value for example in EXAMPLES):
            yield f"settings: {name} is still the example's {value}; put your own in settings.env"
        if CREDENTIAL.search(name) and value:
            yield f"settings: {name} is a credential; put it into a Secret"
    url = rendered.settings().get("EXTERNAL_URL", "")
    if not re.fullmatch(r"https?://[^/\s]+", url.strip(" '\"")):
        yield f"settings: EXTERNAL_URL is {url or 'missing'}; write scheme and host alone: https://host"


def variables(rendered: Rendered) -> Iterator[str]:
    """No variable is there twice, and credentials come from Secrets."""
    for where, container, _ in rendered.containers():
        own = container.get("env", ())
        for name, count in Counter(each["name"] for each in own).items():
            if count > 1:
                yield f"{where}: {name} is set {count} times; keep one of them"
        for each in own:
            literal = str(each.get("value") or "")
            if literal and CREDENTIAL.search(each["name"]) and not literal.startswith("/"):
                yield f"{where}: {each['name']} stands in the manifest; take it from a Secret"


def volumes(rendered: Rendered) -> Iterator[str]:
    """No Secret is mounted such that it never changes, and no SQLite file is shared."""
    for where, container, spec in rendered.containers():
        kinds = {volume["name"]: volume for volume in spec.get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            if "subPath" in mount and "secret" in kinds.get(mount["name"], {}):
                yield f"{where}: mounts {mount['name']} by subPath, so a rotated one is never seen"
    if rendered.environment(rendered.named("stack")).get("STORAGE") != "postgres":
        for owner, pod in rendered.pods:
            is_stack = any(each["name"] == "stack" for each in pod["spec"]["containers"])
            if is_stack and owner["spec"].get("replicas", 1) > 1:
                yield "llama-stack: replicas cannot share SQLite; use components/postgres, or one"


def callers(rendered: Rendered) -> Iterator[str]:
    """Callers show a JWT or an API key, and it is clear which."""
    environment = rendered.environment(rendered.named("proxy"))
    inbound = environment.get("INBOUND")
    if inbound not in ("jwt", "api_keys"):
        yield "llm-proxy: anybody may call; add components/inbound-jwt or inbound-api-keys"
    other = {"jwt": "API_KEYS_FILE", "api_keys": "OIDC_ISSUER"}.get(inbound or "", "")
    if environment.get(other):
        yield f"llm-proxy: INBOUND is {inbound}, and {other} is set too; keep one of components/inbound-*"
    if inbound == "jwt":
        for name in ("OIDC_ISSUER", "OIDC_AUDIENCE"):
            if not environment.get(name):
                yield f"settings: {name} is missing; components/inbound-jwt needs it"


def identities(rendered: Rendered) -> Iterator[str]:
    """The proxy signs in to Entra ID in one way."""
    environment = rendered.environment(rendered.named("proxy"))
    labels = [pod["metadata"].get("labels", {}) for _, pod in rendered.pods]
    ways = {
        "identity-workload": any(
            each.get("azure.workload.identity/use") == "true" for each in labels
        ),
        "identity-federated": environment.get("AZURE_FEDERATED_TOKEN_FILE"),
        "identity-secret": environment.get("AZURE_CLIENT_SECRET_PATH"),
    }
    used = [component for component, is_used in ways.items() if is_used]
    if environment.get("AZURE_PROVIDER_ID") and not used:
        yield "llm-proxy: has no way to sign in to Entra ID; add one of components/identity-*"
    if len(used) > 1:
        yield f"llm-proxy: signs in to Entra ID by {' and '.join(used)}; keep one of these components"


def certificates(rendered: Rendered) -> Iterator[str]:
    """cert-manager writes the Secret that the stack mounts, for the name that the proxy asks for."""
    mounted = secrets(rendered, existing=False)
    for each in rendered.all("Certificate"):
        name, spec = each["metadata"]["name"], each["spec"]
        if spec.get("isCA"):
            continue
        if spec["secretName"] not in mounted:
            yield f"Certificate {name}: no pod mounts its Secret {spec['secretName']}; keep one of components/cert-manager and components/stack-plain-http"
        environment = rendered.environment(rendered.named("proxy"))
        namespace = each["metadata"].get("namespace", "<namespace>")
        host = f"{environment.get('LLAMA_STACK_HOST')}.{namespace}.svc"
        if host not in spec.get("dnsNames", ()):
            yield f"Certificate {name}: is not for {host}; set a namespace, and list components/cert-manager/wiring under transformers"


def instances(rendered: Rendered) -> Iterator[str]:
    """Two installations in one namespace do not select each other's pods."""
    for each in rendered.objects:
        if any(INSTANCE not in labels for labels in selectors(each.get("spec"))):
            yield f"{each['kind']} {each['metadata']['name']}: selects the pods of every installation; add the label {INSTANCE} to its selectors"
    found: dict[tuple[str, ...], str] = {}
    for owner, pod in rendered.pods:
        labels, name = pod["metadata"].get("labels", {}), str(owner["metadata"]["name"])
        if PART_OF not in labels or INSTANCE not in labels:
            continue
        if name != labels.get(NAME) and labels[INSTANCE] == "llm-proxy":
            yield f"Deployment {name}: has the labels of an installation without a prefix; list wiring under transformers of the kustomization that has the prefix"
        key = (str(owner["metadata"].get("namespace")), labels.get(NAME, ""), labels[INSTANCE])
        if key in found:
            yield f"Deployments {found[key]} and {name} have the same labels; give each its own {INSTANCE}"
        found[key] = name


def selectors(value: Any) -> Iterator[Object]:
    """Yield the labels by which a spec selects pods of ours."""
    if isinstance(value, list):
        for each in value:
            yield from selectors(each)
    elif isinstance(value, Mapping):
        if PART_OF in value:
            yield value
        for key, below in value.items():
            if key != "metadata":
                yield from selectors(below)


def providers(rendered: Rendered) -> Iterator[str]:
    """Key variables follow from provider names, and each provider has its own."""
    owners: dict[str, str] = {}
    for name, _, entry in inference(rendered):
        for match in REFERENCE.finditer(str((entry.get("config") or {}).get("api_key", ""))):
            wanted = environment_name(name)
            if name != DISABLED and match[1] != wanted:
                yield f"run.yaml: the key of {name} must come from {wanted}, not {match[1]}"
            if match[1] in owners:
                yield f"run.yaml: {owners[match[1]]} and {name} share {match[1]}; rename one of them"
            owners[match[1]] = name


def clients(rendered: Rendered) -> Iterator[str]:
    """Clients are told a model that a provider has."""
    try:
        client = json.loads(rendered.file("config.json") or "{}")
    except ValueError:
        yield "client: config.json is not JSON; remove quotes and backslashes from MODEL and EXTERNAL_URL"
        return
    enabled = {name: entry for name, is_enabled, entry in inference(rendered) if is_enabled}
    provider, _, model = str(client.get("model") or "").partition("/")
    if provider not in enabled or model in ("", "null", "unset"):
        there = ", ".join(sorted(enabled)) or "none"
        yield f"client: {client.get('model')} is no <provider_id>/<model>; providers: {there}"
    elif enabled[provider]["provider_type"] == "remote::azure":
        models = registered(rendered, provider)
        if model not in models:
            there = ", ".join(sorted(models)) or "none"
            yield f"client: {provider} has no model {model}; run.yaml registers: {there}"


def inference(rendered: Rendered) -> Iterator[tuple[str, bool, Object]]:
    """Yield each inference provider of run.yaml: its name, whether it is enabled, and its entry."""
    tree = YAML(typ="safe").load(rendered.file("run.yaml")) or {}
    environment = rendered.environment(rendered.named("stack"))
    for entry in tree.get("providers", {}).get("inference", ()):
        text = str(entry["provider_id"])
        name = REFERENCE.sub(lambda match: match[3] if match[2] == "+" else match[0], text)
        is_enabled = expanded(text, environment) not in ("", DISABLED)
        yield expanded(name, environment), is_enabled, entry


def registered(rendered: Rendered, provider: str) -> set[str]:
    """Return the models that run.yaml registers for a provider."""
    tree = YAML(typ="safe").load(rendered.file("run.yaml")) or {}
    environment = rendered.environment(rendered.named("stack"))
    return {
        expanded(str(each["model_id"]), environment)
        for each in tree.get("registered_resources", {}).get("models", ())
        if expanded(str(each["provider_id"]), environment) == provider
    }


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with its variables put in, as the stack does."""

    def value_of(match: re.Match[str]) -> str:
        name, operator, operand = match.groups()
        value = environment.get(name, "")
        return (operand if value else "") if operator == "+" else value or operand or ""

    return REFERENCE.sub(value_of, text)


def secrets(rendered: Rendered, *, existing: bool = True) -> dict[str, set[str]]:
    """Return the Secrets that pods and the Ingress need, and the keys they ask for by name.

    Args:
        rendered: the manifests.
        existing: leave out those that OpenShift or cert-manager writes.
    """
    found: dict[str, set[str]] = {
        each["secretName"]: {"tls.crt", "tls.key"}
        for ingress in rendered.all("Ingress")
        for each in ingress["spec"].get("tls", ())
        if "secretName" in each
    }
    for _, container, spec in rendered.containers():
        for each in container.get("env", ()):
            reference = each.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                found.setdefault(reference["name"], set()).add(reference["key"])
        for volume in spec.get("volumes", ()):
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"].get("items", ())}
                found.setdefault(volume["secret"]["secretName"], set()).update(keys)
    if existing:
        for service in rendered.all("Service"):
            found.pop(service["metadata"].get("annotations", {}).get(SERVING_CERTIFICATE), None)
        for certificate in rendered.all("Certificate"):
            found.pop(certificate["spec"]["secretName"], None)
    return found


RULES = (
    *(images, settings, variables, volumes, callers, identities),
    *(certificates, instances, providers, clients),
)


def parsed(text: str) -> Rendered:
    """Return a rendering, which must hold a Deployment."""
    rendered = Rendered([each for each in YAML(typ="safe").load_all(io.StringIO(text)) if each])
    if not rendered.pods:
        raise LookupError("no Deployment")
    return rendered


def findings(rendered: Rendered) -> list[str]:
    """Return what is wrong with a rendering."""
    return [finding for rule in RULES for finding in rule(rendered)]


def main() -> int:
    """Read from standard input; return the exit code."""
    try:
        rendered = parsed(sys.stdin.read())
        found, needed = findings(rendered), secrets(rendered)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        said = f"no rendered manifests ({type(error).__name__}); pipe `kubectl kustomize` into this"
        print(said, file=sys.stderr)  # noqa: T201 - a command
        return 2
    for line in found:
        print(f"✗ {line}")  # noqa: T201 - a command
    if rendered.environment(rendered.named("proxy")).get("LLAMA_STACK_SCHEME") == "http":
        print("! tokens go to the stack over plain HTTP: components/stack-plain-http")  # noqa: T201 - a command
    for name, keys in needed.items():
        print(f"needs Secret {name}: {', '.join(sorted(keys)) or 'see the component'}")  # noqa: T201 - a command
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
