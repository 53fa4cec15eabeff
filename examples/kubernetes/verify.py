"""Say what is wrong with rendered manifests before a cluster does, or does not.

    kubectl kustomize overlays/mine | python verify.py

Prints one line a finding and the Secrets that must exist. Exit codes: 0 well, 1 something is not, 2
what came in is no Kubernetes YAML. Needs Python 3.12 and lightspeed-azure's packages, no cluster.
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
    """Nothing is left as the examples have it, and no credential stands among the settings."""
    for name, value in rendered.settings().items():
        if any(example in value for example in EXAMPLES):
            yield f"settings: {name} is still the example's {value}; put your own in settings.env"
        if CREDENTIAL.search(name) and value:
            yield f"settings: {name} is a credential; put it into a Secret"
    url = rendered.settings().get("EXTERNAL_URL", "")
    if not re.fullmatch(r"https?://[^/\s]+", url):
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
    """Somebody is asked who they are, and the proxy can sign in where it must."""
    environment = rendered.environment(rendered.named("proxy"))
    if environment.get("INBOUND") not in ("jwt", "api_keys"):
        yield "llm-proxy: anybody may call; add components/inbound-jwt or inbound-api-keys"
    if environment.get("INBOUND") == "jwt":
        for name in ("OIDC_ISSUER", "OIDC_AUDIENCE"):
            if not environment.get(name):
                yield f"settings: {name} is missing; components/inbound-jwt needs it"
    ways = ("AZURE_CLIENT_SECRET_PATH", "AZURE_FEDERATED_TOKEN_FILE")
    labels = [pod["metadata"].get("labels", {}) for _, pod in rendered.pods]
    workload = any(each.get("azure.workload.identity/use") == "true" for each in labels)
    if environment.get("AZURE_PROVIDER_ID") and not (workload or any(map(environment.get, ways))):
        yield "llm-proxy: has no way to sign in to Entra ID; add one of components/identity-*"


def providers(rendered: Rendered) -> Iterator[str]:
    """Key variables follow from provider names, and clients are told a model that a provider has."""
    tree = YAML(typ="safe").load(rendered.file("run.yaml")) or {}
    environment = rendered.environment(rendered.named("stack"))
    owners: dict[str, str] = {}
    enabled, azure = set(), set()
    for entry in tree.get("providers", {}).get("inference", ()):
        text = str(entry["provider_id"])
        name = REFERENCE.sub(lambda match: match[3] if match[2] == "+" else match[0], text)
        name = expanded(name, environment)
        if expanded(text, environment) not in ("", DISABLED):
            enabled.add(name)
            if entry["provider_type"] == "remote::azure":
                azure.add(name)
        for match in REFERENCE.finditer(str((entry.get("config") or {}).get("api_key", ""))):
            wanted = environment_name(name)
            if name != DISABLED and match[1] != wanted:
                yield f"run.yaml: the key of {name} must come from {wanted}, not {match[1]}"
            if match[1] in owners:
                yield f"run.yaml: {owners[match[1]]} and {name} share {match[1]}; rename one of them"
            owners[match[1]] = name
    client = json.loads(rendered.file("config.json") or "{}")
    provider, _, model = str(client.get("model") or "").partition("/")
    if provider not in enabled or model in ("", "null", "unset"):
        there = ", ".join(sorted(enabled)) or "none"
        yield f"client: {client.get('model')} is no <provider_id>/<model>; providers: {there}"
    elif provider in azure:
        models = registered(tree, environment, provider)
        if model not in models:
            there = ", ".join(sorted(models)) or "none"
            yield f"client: {provider} has no model {model}; run.yaml registers: {there}"


def registered(tree: Object, environment: Mapping[str, str], provider: str) -> set[str]:
    """Return the models that run.yaml registers for a provider."""
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


def secrets(rendered: Rendered) -> dict[str, set[str]]:
    """Return the Secrets that must be made, and the keys that are asked for by name."""
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
    for service in rendered.all("Service"):  # OpenShift writes these itself
        found.pop(service["metadata"].get("annotations", {}).get(SERVING_CERTIFICATE), None)
    return found


RULES = (images, settings, variables, volumes, callers, providers)


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
    for name, keys in needed.items():
        print(f"needs Secret {name}: {', '.join(sorted(keys)) or 'see the component'}")  # noqa: T201 - a command
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
