"""`lightspeed-azure token`."""

import json
import sys
from pathlib import Path

import click

from lightspeed_azure.cli.options import config_option, config_path, examples, verbose_option
from lightspeed_azure.cli.progress import working
from lightspeed_azure.errors import InvalidConfigurationError


@click.command(
    epilog=examples(
        "lightspeed-azure token",
        "lightspeed-azure token --json",
        "curl -H @<(lightspeed-azure token --header) $AZURE_API_BASE/models",
    )
)
@config_option("The service's configuration.")
@click.option(
    "--provider", metavar="ID", help="The provider_id of the identity, when there are several."
)
@click.option("--json", "as_json", is_flag=True, help="Print what is known as JSON.")
@click.option("--raw", is_flag=True, help="Print the token alone. It is a secret.")
@click.option(
    "--header", is_flag=True, help="Print a line for curl's -H that carries the token: a secret."
)
@verbose_option(quiet=True)
def token(
    config: Path | None, provider: str | None, *, as_json: bool, raw: bool, header: bool
) -> None:
    """Get a token as the service does, and describe it.

    Shows its claims and lifetime, and not the token itself, unless asked to. Exit code 0 with a token, 1 when none can be had, 2 when the configuration cannot work.
    """
    if raw + header + as_json > 1:
        raise InvalidConfigurationError("--raw, --header and --json exclude each other; keep one")
    with working("Asking Entra ID"):
        from lightspeed_azure.check.claims import claims_of, shown  # noqa: PLC0415 - slow
        from lightspeed_azure.check.token import lifetime  # noqa: PLC0415
        from lightspeed_azure.config import load_configuration  # noqa: PLC0415
        from lightspeed_azure.tokens.manager import AzureEntraIDManager  # noqa: PLC0415

        identities = load_configuration(config_path(config)).azure_entra_id
        manager = AzureEntraIDManager.isolated(list(identities) or None)
        if provider is not None:
            _check_provider(provider, [block.provider_id for block in identities])
        identity = manager.identity(provider)
        secret = identity.get_token()
        remaining = identity.status().remaining or 0.0
        manager.close()
    if raw or header:
        if sys.stdout.isatty():
            click.echo("This is a secret, and it is on your screen now.", err=True)
        before = "Authorization: Bearer " if header else ""
        click.echo(before + secret.get_secret_value())
        return
    claims = claims_of(secret)
    known: dict[str, object] = {
        "credential": identity.config.credential_kind,
        "scope": identity.config.default_scope,
        "characters": len(secret.get_secret_value()),
    }
    if as_json:
        known["remaining_seconds"] = round(remaining)
        known["claims"] = None if claims is None else shown(claims)
        click.echo(json.dumps(known, indent=2))
        return
    known["lives"] = lifetime(remaining)
    for name, value in {**known, **shown(claims or {})}.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{name:12} {text}")


def _check_provider(wanted: str, known: list[str | None]) -> None:
    """Refuse a `--provider` that no identity names.

    Raises:
        InvalidConfigurationError: with the names that there are.
    """
    from lightspeed_azure.config.problems import meant  # noqa: PLC0415 - slow

    names = [name for name in known if name is not None]
    if wanted in names:
        return
    cure = meant(wanted, names) if names else "leave it out: there is one, for every provider"
    raise InvalidConfigurationError(f"--provider: no identity has provider_id {wanted}; {cure}")
