"""docs/proxy.md is true: its configuration is read, its table has every key, its paths are let through."""

import re
from pathlib import Path

import yaml

from lightspeed_azure.config import ProxyConfiguration, configuration_from_mapping
from lightspeed_azure.config.proxy import IDENTITY_HEADERS
from lightspeed_azure.proxy.routes import LET_THROUGH, OWN

TEXT = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text()


def test_its_configuration_is_read() -> None:
    """What an operator copies is a configuration."""
    environ = {f"AZURE_{name}": "x" for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")}
    for code in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL):
        loaded = configuration_from_mapping(yaml.safe_load(code), environ=environ)
        assert loaded.proxy is not None
        assert loaded.llama_stack is not None


def test_its_table_has_every_key() -> None:
    """No key of the block is missing, and none is made up."""
    rows = TEXT.partition("| key in `proxy:`")[2].partition("\n\n")[0].splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(ProxyConfiguration.model_fields)


def test_it_names_what_is_let_through_and_what_is_taken_out() -> None:
    """Every path and every header that the code knows is in the text."""
    for path in LET_THROUGH:
        assert f"`{path.removeprefix('/v1/')}`" in TEXT, path
    for path in OWN:
        assert f"`{path}`" in TEXT, path
    for name in IDENTITY_HEADERS:
        assert f"`{name}`" in TEXT.lower(), name
