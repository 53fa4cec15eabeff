"""Each example of the page about resolvers works as it stands."""

import re
import tomllib
from pathlib import Path

import pytest
from resolving import Hook, hook_fixture

from lightspeed_azure.config import load_configuration
from lightspeed_azure.config.credential_resolver import (
    BUILT_IN,
    GROUP,
    CredentialResolverConfiguration,
)

__all__ = ["hook_fixture"]

PAGE = (Path(__file__).parents[2] / "docs" / "credential-resolvers.md").read_text()


def fences(language: str) -> list[str]:
    """Return the page's code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", fences("yaml"))
def test_an_example_of_a_file_loads(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no unknown key; the pod's service account is there."""
    token = tmp_path / "token"
    token.write_text("jwt")
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "safe.py").write_text(
        "class Safe:\n    def __init__(self, **options): pass\n    def before(self, question): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code = code.replace("{role: lightspeed}", f"{{role: lightspeed, token_path: {token}}}")
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(code)
    assert load_configuration(file, environ={}).credential_resolvers


@pytest.mark.parametrize("code", fences("python"))
def test_an_example_in_python_runs(hook: Hook, code: str) -> None:
    """As somebody would paste it."""
    exec(compile(code, "docs/credential-resolvers.md", "exec"), {"__name__": "pasted"})  # noqa: S102


def test_the_entry_point_group_is_ours() -> None:
    """A package that copies the lines is found."""
    (code,) = fences("toml")
    assert GROUP in tomllib.loads(code)["project"]["entry-points"]


def test_every_key_is_on_the_page() -> None:
    """Of a block, and of the options of our own resolvers."""
    fields = [*CredentialResolverConfiguration.model_fields]
    for options in BUILT_IN.values():
        fields += options.model_fields
    for name in fields:
        assert re.search(rf"\b{name}\b", PAGE), name
