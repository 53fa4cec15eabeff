"""`lightspeed-azure check`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightspeed_azure.cli.console import BAD_INPUT, FAILED, OK, working
from lightspeed_azure.cli.options import config_option, config_path, examples, verbose_option
from lightspeed_azure.errors import InvalidConfigurationError

if TYPE_CHECKING:
    from lightspeed_azure.check import Finding

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}
_WIDTH = 15


@click.command(
    epilog=examples(
        "lightspeed-azure check",
        "lightspeed-azure check --inference azure/gpt-4o-mini",
        "lightspeed-azure check --config /etc/lightspeed-stack.yaml --json",
    )
)
@config_option("The service's configuration.")
@click.option(
    "--run-yaml",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The stack's own file, when the configuration does not name it.",
)
@click.option("--inference", metavar="MODEL", help="Ask this model one real question.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@verbose_option(quiet=True)
def check(
    config: Path | None, run_yaml: Path | None, inference: str | None, *, as_json: bool
) -> None:
    """Find out why Azure does not answer.

    Checks the configuration, its files, Entra ID, the stack and, with --inference, Azure itself.
    Prints one line per part: ✓ ok, ! warning, ✗ failed; the next line says what to do. A failed part
    does not hide the others. No secret is shown. Exit code 0 without a ✗, 1 with one, 2 when the
    configuration cannot work.
    """
    with working("Starting"):
        from lightspeed_azure.check import as_data, configuration_findings, run_checks  # noqa: PLC0415 - slow

    findings: list[Finding] = []
    code = OK
    try:
        for finding in run_checks(
            config_path(config), run_yaml=run_yaml, inference=inference, working=working
        ):
            findings.append(finding)
            if not as_json:
                _show(finding)
    except InvalidConfigurationError as error:
        code = BAD_INPUT
        for finding in configuration_findings(error):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        click.echo(json.dumps(as_data(findings), indent=2))
    if code == OK and any(finding.state == "failed" for finding in findings):
        code = FAILED
    sys.exit(code)


def _show(finding: "Finding") -> None:
    mark, colour = _MARKS[finding.state]
    click.echo(f"{click.style(mark, fg=colour)} {finding.question:{_WIDTH}} {finding.found}")
    if finding.cure:
        click.echo(f"  {'':{_WIDTH}} → {finding.cure}")
