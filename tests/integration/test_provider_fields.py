"""The table of provider-data fields is that of the stack which is installed here."""

import pytest
from families import FAMILY

from lightspeed_azure.config import configuration_from_mapping
from lightspeed_azure.config.provider_fields import TABLE, installed_fields

pytestmark = pytest.mark.integration


def test_the_table_is_the_stacks() -> None:
    """Each provider type, with the same fields, and none besides."""
    installed = {kind: set(fields) for kind, fields in installed_fields().items()}
    assert {kind: set(fields) for kind, fields in TABLE[FAMILY.name].items()} == installed


def test_a_field_that_only_the_stack_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table does not know is looked up in the installed stack before it is refused."""
    for table in TABLE.values():
        assert isinstance(table, dict)
        monkeypatch.delitem(table, "remote::groq")
    entry = {"provider_id": "x", "field": "groq_api_key", "source": {"value": "key"}}
    assert configuration_from_mapping({"provider_credentials": [entry]}).provider_credentials
