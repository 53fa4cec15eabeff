"""Each example of the page about credentials is a configuration that works."""

import re
from pathlib import Path

import pytest
import yaml
from entra_material import Certificate, assertion

from lightspeed_azure.config import AzureEntraIdConfiguration, load_configuration
from lightspeed_azure.config.cloud import CLOUDS
from lightspeed_azure.config.credential_kinds import KINDS
from lightspeed_azure.tokens.aadsts import MEANINGS
from lightspeed_azure.tokens.entra import credential_source

PAGE = (Path(__file__).parents[2] / "docs" / "credentials.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ENVIRON = {
    "AZURE_TENANT_ID": "11111111-1111-1111-1111-111111111111",
    "AZURE_CLIENT_ID": "22222222-2222-2222-2222-222222222222",
    "AZURE_CLIENT_SECRET": "an invented secret",
}


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    """Return a directory with the files that the examples name."""
    contents = {
        "var/run/secrets/azure/client_secret": b"an invented secret",
        "var/run/secrets/azure-west/client_secret": b"an invented secret",
        "var/run/secrets/azure/certificate.pem": Certificate().pem(),
        "var/run/secrets/azure/tokens/azure-identity-token": assertion().encode(),
        "etc/pki/private-ca.pem": Certificate().public,
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_loads(example: str, root: Path) -> None:
    """It has no unknown key, names files that can be used, and chooses a credential."""
    file = root / "lightspeed-stack.yaml"
    file.write_text(re.sub(r"(?<= )/(?=var/|etc/)", f"{root}/", example))
    loaded = load_configuration(file, environ=ENVIRON).azure_entra_id
    assert loaded
    for identity in loaded:
        assert credential_source(identity).describe()


def test_every_kind_has_an_example() -> None:
    """Nothing that can be chosen is left unexplained."""
    shown: set[str] = set()
    for example in EXAMPLES:
        block = yaml.safe_load(example)["azure_entra_id"] or {}
        for identity in block if isinstance(block, list) else [block]:
            shown |= identity.keys()
    assert set(KINDS) <= shown


def test_every_key_is_explained() -> None:
    """Each key of the block stands on the page in a code span or in an example."""
    for key in AzureEntraIdConfiguration.model_fields:
        assert f"`{key}`" in PAGE or f"{key}:" in PAGE, key


def test_the_clouds_are_those_of_the_code() -> None:
    """The table says what the code does."""
    for cloud in CLOUDS.values():
        assert f"| `{cloud.name}` | `{cloud.authority}` | `{cloud.scope}` |" in PAGE


def test_the_codes_are_known() -> None:
    """Each code on the page has a meaning of its own in the code."""
    named = set(re.findall(r"AADSTS(\d+)", PAGE)) | set(re.findall(r"\b(7002\d\d|1002012)\b", PAGE))
    assert named
    assert named <= set(MEANINGS)
