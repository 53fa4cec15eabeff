"""`lightspeed-azure enrich`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightspeed_azure.cli.console import working
from lightspeed_azure.cli.options import (
    CONFIG_VARIABLE,
    config_option,
    config_path,
    examples,
    verbose_option,
)
from lightspeed_azure.errors import InvalidConfigurationError

if TYPE_CHECKING:
    from lightspeed_azure.enrichment import Enriched

STANDARD = "-"


@click.command(
    epilog=examples(
        "lightspeed-azure enrich run.yaml -o enriched.yaml",
        "lightspeed-azure enrich run.yaml --dry-run",
        "lightspeed-azure enrich --in-place --drop-api-key run.yaml",
        "kubectl get cm stack -o jsonpath={.data.run} | lightspeed-azure enrich -",
    )
)
@click.argument("source", metavar="[INPUT]", required=False)
@click.option("-i", "--input", "named", metavar="FILE", help="The same as INPUT.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="File for the result, mode 0600.  [default: -, standard output]",
)
@config_option("The configuration with the azure_entra_id block.")
@click.option("--in-place", is_flag=True, help="Write the result over INPUT.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
@click.option(
    "--drop-api-key",
    is_flag=True,
    help="Remove the api_key of Azure providers, so that no request falls back to it.",
)
@click.option("--no-repair", is_flag=True, help="Set model_validation, and change nothing else.")
@click.option(
    "-e", "--env-file", metavar="FILE", help="No longer supported: tokens are never written."
)
@verbose_option()
def enrich(
    source: str | None,
    named: str | None,
    output: str | None,
    config: Path | None,
    env_file: str | None,
    *,
    in_place: bool,
    dry_run: bool,
    drop_api_key: bool,
    no_repair: bool,
) -> None:
    """Prepare a stack's run.yaml for Entra ID.

    Writes a copy whose `remote::azure` providers start without a key. INPUT is run.yaml, as YAML or
    JSON; - is standard input. The default is what the configuration describes in unified mode, or
    else run.yaml in this directory. Sets model_validation: false on these providers, makes
    ${env.AZURE_API_KEY} optional, and reports what else would not work, with its line. Comments,
    order, quotes and anchors stay: only Azure's lines differ. An alias or a merge key on an Azure
    provider is an error. Nothing changes when the configuration has no azure_entra_id block.
    """
    from lightspeed_azure import enrichment  # noqa: PLC0415 - not for --help

    if env_file is not None:
        raise InvalidConfigurationError(
            "--env-file: no token is written into a file any more; remove the option: requests "
            "carry the token themselves, and the stack starts without AZURE_API_KEY"
        )
    unified = _unified(config) if source is named is None else None
    source = _one_of(source, named)
    if unified is not None and in_place:
        raise InvalidConfigurationError(
            "--in-place: the configuration is in unified mode, so there is no file to write over; "
            "give the result a name with -o"
        )
    target = output or STANDARD if unified else _target(source, output, in_place=in_place)
    identities = _identities(config)
    text, name = unified or (_read(source), "standard input" if source == STANDARD else source)
    with working(f"Enriching {name}"):
        outcome = enrichment.enrich_text(
            text,
            name,
            identities,
            repair=not no_repair,
            drop_api_key=drop_api_key,
        )
    if dry_run:
        _show(outcome)
    elif target == STANDARD:
        click.echo(outcome.after.encode(), nl=False)
    elif not in_place or outcome.after != outcome.before:
        enrichment.write_atomically(Path(target), outcome.after)
    _tell(outcome)


def _unified(config: Path | None) -> tuple[str, str] | None:
    """Return the stack's configuration as unified mode describes it, and its name in messages."""
    path = config_path(config)
    if not path.exists():
        return None
    from lightspeed_azure.config.unified import unified_in  # noqa: PLC0415 - not for --help
    from lightspeed_azure.enrichment.synthesis import unified_configuration  # noqa: PLC0415

    unified = unified_in(path)
    return unified_configuration(unified) if unified else None


def _one_of(source: str | None, named: str | None) -> str:
    if source is not None and named is not None:
        raise InvalidConfigurationError("INPUT and -i both name a file; give one of them")
    return source or named or "run.yaml"


def _target(source: str, output: str | None, *, in_place: bool) -> str:
    """Return where the result goes; never over the input unless that is asked for."""
    if in_place:
        if output is not None or source == STANDARD:
            what = "-o" if output is not None else "standard input"
            raise InvalidConfigurationError(f"--in-place and {what} exclude each other; drop one")
        return source
    target = output or STANDARD
    if STANDARD not in (target, source) and _is_same(Path(source), Path(target)):
        raise InvalidConfigurationError(
            f"{target}: is the input; give another file with -o, or say --in-place"
        )
    return target


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _identities(config: Path | None) -> tuple[str | None, ...]:
    """Return the identities that the configuration has; one where there is no configuration."""
    from lightspeed_azure.enrichment import identities_in  # noqa: PLC0415 - not for --help

    path = config_path(config)
    is_named = config is not None or bool(os.environ.get(CONFIG_VARIABLE))
    if not is_named and not os.path.lexists(path):
        return (None,)
    identities = identities_in(path)
    if not identities:
        _note("!", "yellow", f"{path}: has no azure_entra_id, so nothing is changed; add the block")
    return identities


def _read(source: str) -> str:
    from lightspeed_azure.enrichment import decode, read  # noqa: PLC0415 - not for --help

    if source == STANDARD:
        if sys.stdin is None:
            raise InvalidConfigurationError("standard input: is closed; name a file")
        return decode(sys.stdin.buffer.read(), "standard input")
    return read(Path(source))


def _tell(outcome: "Enriched") -> None:
    """Say on standard error what was changed, and what is left to do."""
    for change in outcome.changes:
        _note("✓", "green", change)
    for warning in outcome.warnings:
        _note("!", "yellow", warning)


def _note(mark: str, colour: str, text: str) -> None:
    click.echo(f"{click.style(mark, fg=colour)} {text}", err=True)


def _show(outcome: "Enriched") -> None:
    """Print the difference, without any secret that stands in the file."""
    from lightspeed_azure.cli.difference import difference  # noqa: PLC0415 - not for --help

    for colour, line in difference(outcome.before, outcome.after):
        click.echo(click.style(line, fg=colour) if colour else line)
