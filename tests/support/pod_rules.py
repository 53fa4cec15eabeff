"""What holds for every pod of ours, by the manifests alone."""

from collections.abc import Iterator
from typing import Any

type Object = dict[str, Any]

_VOLUMES = {"name", "configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"}


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Yield the name, labels and spec of each pod that a Deployment makes."""
    for each in objects:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield where each container is, and the container."""
    for name, _, spec in pods(objects):
        for each in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield f"{name}/{each['name']}", each


def broken_restrictions(objects: list[Object]) -> Iterator[str]:
    """Yield what breaks the Pod Security Standard `restricted`, and what we ask beyond it.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    for name, _, spec in pods(objects):
        yield from _of_pod(name, spec)
    for name, each in containers(objects):
        context = each.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        yield from [f"{name}: {key}" for key in wanted if context.get(key) != wanted[key]]
        yield from [f"{name}: {key}" for key in context.keys() - wanted.keys()]
        yield from [f"{name}: hostPort" for port in each.get("ports", ()) if "hostPort" in port]


def _of_pod(name: str, spec: Object) -> Iterator[str]:
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{name}: seccompProfile"
    if {"runAsUser", "runAsGroup", "sysctls", "supplementalGroups"} & context.keys():
        yield f"{name}: fixes ids that OpenShift gives"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{name}: automountServiceAccountToken"
    if spec.get("enableServiceLinks") is not False:
        yield f"{name}: enableServiceLinks"
    if {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys():
        yield f"{name}: shares the host's"
    for volume in spec.get("volumes", ()):
        if not volume.keys() <= _VOLUMES:
            yield f"{name}: volume {volume['name']}"


def lost_ends(objects: list[Object]) -> Iterator[str]:
    """Yield what names a pod, port, volume, ConfigMap, account or claim that is not there."""
    every = list(pods(objects))
    names = {
        kind: {each["metadata"]["name"] for each in objects if each["kind"] == kind}
        for kind in ("ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "Service")
    }
    for each in objects:
        name, spec = f"{each['kind']} {each['metadata']['name']}", each.get("spec", {})
        if each["kind"] == "Service":
            chosen = [pod for _, labels, pod in every if spec["selector"].items() <= labels.items()]
            if len(chosen) != 1:
                yield f"{name}: selects {len(chosen)} kinds of pods"
            ports = {port["targetPort"] for port in spec["ports"]}
            yield from [f"{name}: port {p}" for pod in chosen for p in ports - port_names(pod)]
        elif each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = spec["podSelector" if each["kind"] == "NetworkPolicy" else "selector"]
            chosen = [
                pod for _, labels, pod in every if selector["matchLabels"].items() <= labels.items()
            ]
            if not chosen:
                yield f"{name}: matches no pod"
            asked = {port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]}
            yield from [f"{name}: port {p}" for pod in chosen for p in asked - port_names(pod)]
    for name, _, spec in every:
        if spec["serviceAccountName"] not in names["ServiceAccount"]:
            yield f"{name}: account {spec['serviceAccountName']}"
        yield from [f"{name}: {lost}" for lost in _lost_of_pod(spec, names)]


def _lost_of_pod(spec: Object, names: dict[str, set[str]]) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounted = set()
    for each in [*spec.get("initContainers", ()), *spec["containers"]]:
        mounted |= {mount["name"] for mount in each["volumeMounts"]}
        yield from [
            f"{each['name']} {source['configMapRef']['name']}"
            for source in each["envFrom"]
            if source["configMapRef"]["name"] not in names["ConfigMap"]
        ]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in each and each[probe]["httpGet"]["port"] not in port_names(spec):
                yield f"{each['name']} {probe}"
    yield from [f"volume {name}" for name in mounted ^ volumes]
    for volume in spec["volumes"]:
        if "configMap" in volume and volume["configMap"]["name"] not in names["ConfigMap"]:
            yield f"ConfigMap {volume['configMap']['name']}"
        claim = volume.get("persistentVolumeClaim")
        if claim and claim["claimName"] not in names["PersistentVolumeClaim"]:
            yield f"claim {claim['claimName']}"


def port_names(spec: Object) -> set[str]:
    """Return the names of a pod's ports."""
    return {port["name"] for each in spec["containers"] for port in each.get("ports", ())}
