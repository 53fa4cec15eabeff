"""Limits and choices of the configuration keys: each message states the field's own."""

from collections.abc import Iterator
from typing import Any, Literal, TypeAliasType, get_args, get_origin

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from lightspeed_azure.config import (
    AzureEntraIdConfiguration,
    CredentialResolverConfiguration,
    LlamaStackConfiguration,
    ProviderCredential,
    ProxyConfiguration,
)
from lightspeed_azure.config.block import Block, LocatedConfigurationError
from lightspeed_azure.config.credential_resolver import BUILT_IN
from lightspeed_azure.config.values import Unit, parts_of

ROOTS: list[type[Block]] = [
    AzureEntraIdConfiguration,
    CredentialResolverConfiguration,
    LlamaStackConfiguration,
    ProviderCredential,
    ProxyConfiguration,
    *BUILT_IN.values(),
]


def parts(field: FieldInfo) -> list[object]:
    """Return the types and annotations of a field, those inside its constraints included."""
    found = [*field.metadata, *parts_of(field.annotation)]
    found += [inner for part in found if isinstance(part, FieldInfo) for inner in part.metadata]
    return [part.__value__ if isinstance(part, TypeAliasType) else part for part in found]


def blocks(roots: list[type[Block]]) -> Iterator[type[Block]]:
    """Yield the blocks and the ones within them."""
    for block in roots:
        yield block
        for field in block.model_fields.values():
            inner = [part for part in parts(field) if isinstance(part, type)]
            yield from blocks([part for part in inner if issubclass(part, Block)])


def cases() -> Iterator[tuple[type[Block], str, Any, str]]:
    """Yield block, key, a wrong value and the message, for each limit and each list of choices."""
    for block in blocks(ROOTS):
        for name, field in block.model_fields.items():
            found = parts(field)
            unit = next((f" {part}" for part in found if isinstance(part, Unit)), "")
            kind = "whole number" if int in found else "number"
            of_unit = f" of{unit}" if unit else ""
            if not {int, float}.isdisjoint([part for part in found if isinstance(part, type)]):
                text = f"must be a {kind}{of_unit}; write it without quotes"
                yield from ((block, name, wrong, text) for wrong in ("5", True, [5]))
            for part in found:
                if isinstance(part, annotated_types.Gt):
                    yield block, name, part.gt, f"must be more than {part.gt}{unit}"
                elif isinstance(part, annotated_types.Ge):
                    below = int(str(part.ge)) - 1
                    yield block, name, below, f"must be at least {part.ge}{unit}"
                elif isinstance(part, annotated_types.Le):
                    above = int(str(part.le)) + 1
                    yield block, name, above, f"must be at most {part.le}{unit}"
                elif get_origin(part) is Literal:
                    choices = ", ".join(get_args(part))
                    yield block, name, "nonsense", f"must be one of {choices}"


CASES = list(cases())


@pytest.mark.parametrize(
    ("block", "name", "value", "text"),
    CASES,
    ids=[f"{block.__name__}.{name}={value}" for block, name, value, _ in CASES],
)
def test_the_message_states_the_limit_of_the_field(
    block: type[Block], name: str, value: Any, text: str
) -> None:
    """A value beyond a limit, of the wrong type or no choice: the whole message, and the key."""
    with pytest.raises(LocatedConfigurationError) as caught:
        block(**{name: value})
    found = [problem.text for problem in caught.value.located if problem.key == (name,)]
    assert found == [text]


def test_every_kind_of_limit_is_walked() -> None:
    """The walk finds numbers, both ends of a range, and choices, nested blocks included."""
    names = {(block.__name__, name) for block, name, _, _ in CASES}
    assert {
        ("AzureEntraIdConfiguration", "cloud"),
        ("AzureEntraIdConfiguration", "deadline"),
        ("CredentialResolverConfiguration", "ttl"),
        ("ApiKeysInbound", "kind"),
        ("JwtInbound", "key_refresh"),
        ("JwtInbound", "leeway"),
        ("OpenInbound", "kind"),
        ("LlamaStackConfiguration", "family"),
        ("ProxyConfiguration", "port"),
    } <= names
    assert len(CASES) > 80


def test_a_nested_block_reports_its_problems_with_those_of_the_block_around_it() -> None:
    """All problems come at once, each with its whole key."""
    with pytest.raises(LocatedConfigurationError) as caught:
        ProxyConfiguration(port=-1, inbound={"kind": "jwt", "leeway": 3600, "nonsense": 1})  # type: ignore[arg-type]
    assert [problem.line() for problem in caught.value.located][:1] == ["port: must be at least 0"]
    found = {problem.line() for problem in caught.value.located}
    assert "inbound.leeway: must be at most 600 seconds" in found
    assert any(line.startswith("inbound.nonsense: there is no such key") for line in found)
    assert any(line.startswith("inbound.issuer: is missing") for line in found)
