"""`${env.…}` means what it means to Llama Stack."""

from collections.abc import Mapping
from typing import Any

import pytest

from lightspeed_azure.config.substitution import UnsetVariableError, convert, expand

ENVIRON = {
    "HOME": "/home/operator",
    "NAME": "value",
    "EMPTY": "",
    "DIGITS": "0123",
    "FLOAT": "1e5",
    "YES": "True",
    "NO": "false",
    "TILDE": "~/secrets",
}

TEXTS = [
    "",
    "plain",
    "123",
    "true",
    "${env.NAME}",
    "${env.EMPTY}",
    "${env.UNSET}",
    "${env.DIGITS}",
    "${env.FLOAT}",
    "${env.YES}",
    "${env.NO}",
    "${env.TILDE}",
    "${env.NAME:=other}",
    "${env.UNSET:=other}",
    "${env.UNSET:=}",
    "${env.EMPTY:=other}",
    "${env.UNSET:=~/x}",
    "${env.UNSET:=false}",
    "${env.UNSET:=15}",
    "${env.UNSET:=1.5}",
    "${env.NAME:+given}",
    "${env.NAME:+}",
    "${env.UNSET:+given}",
    "${env.EMPTY:+given}",
    "${env.NAME:other}",
    "${env.name}",
    "${NAME}",
    "$env.NAME",
    "https://${env.NAME}/${env.UNSET:=path}",
    "${env.NAME}${env.DIGITS}",
    "${env.UNSET:+a}${env.EMPTY:+b}",
    "${env.UNSET:=a:b=c+d}",
    "${env.NAME:=a}b}",
    "{${env.NAME}}",
    "${env.NAME:+~}",
]


def substituted(text: str, environ: Mapping[str, str]) -> Any:
    """Return a text as the stack has it: converted when something was put in."""
    expanded = expand(text, environ)
    return text if expanded == text else convert(expanded)


@pytest.mark.integration
@pytest.mark.parametrize("text", TEXTS)
def test_every_form_means_what_llama_stack_makes_of_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our substitution and Llama Stack's give the same value, of the same type, or both fail."""
    stack = pytest.importorskip("llama_stack.core.stack")
    for name in ("UNSET",):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    theirs: Any
    try:
        theirs = stack.replace_env_vars(text)
    except stack.EnvVarError as error:
        with pytest.raises(UnsetVariableError, match=f"variable {error.var_name} is"):
            substituted(text, ENVIRON)
        return
    mine = substituted(text, ENVIRON)
    assert mine == theirs
    assert type(mine) is type(theirs)


def test_a_text_stays_a_text_until_it_is_converted() -> None:
    """A secret of digits keeps its leading nought."""
    assert expand("${env.DIGITS}", ENVIRON) == "0123"
    assert substituted("${env.DIGITS}", ENVIRON) == 123


def test_an_unset_variable_is_named() -> None:
    """The error says which variable it is, and nothing else."""
    with pytest.raises(UnsetVariableError, match="environment variable UNSET is not set"):
        expand("${env.UNSET}", ENVIRON)
