"""`lightspeed-azure proxy`."""

from pathlib import Path

import click

from lightspeed_azure.cli.extras import import_extra
from lightspeed_azure.cli.options import config_option, config_path, examples, verbose_option

_PORT = click.IntRange(0, 65535)


@click.command(
    epilog=examples(
        "lightspeed-azure proxy",
        "lightspeed-azure proxy -c lightspeed-stack.yaml --port 9000",
        "curl http://127.0.0.1:8080/v1/models",
    )
)
@config_option("The service's configuration.")
@click.option("--host", help="The address that callers reach.  [default: proxy.host]")
@click.option("--port", type=_PORT, help="Its port; 0 takes a free one.  [default: proxy.port]")
@click.option(
    "--admin-host", help="The address of metrics and status.  [default: proxy.admin_host]"
)
@click.option(
    "--admin-port",
    type=_PORT,
    help="Its port; 0 takes a free one.  [default: proxy.admin_port]",
)
@click.option("--external-url", metavar="URL", help="The URL by which callers know the proxy.")
@verbose_option()
def proxy(config: Path | None, **given: object) -> None:
    """Serve the stack's API, with Azure's token added.

    For clients that know nothing of Entra ID. Inference requests for Azure's models get the current
    token; everything else is forwarded unchanged. Runs until SIGTERM or Ctrl-C; requests in flight
    may finish.
    """
    module = import_extra("proxy", "lightspeed_azure.proxy.proxy")
    from lightspeed_azure.config import (  # noqa: PLC0415 - slow
        ProxyConfiguration,
        load_configuration,
    )

    configuration = load_configuration(config_path(config))
    before = configuration.proxy or ProxyConfiguration()
    options = {name: value for name, value in given.items() if value is not None}
    merged = ProxyConfiguration(**{**dict(before), **options})
    serving = module.serve(configuration, merged, lambda line: click.echo(line, err=True))
    module.run(serving)
