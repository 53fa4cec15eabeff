"""Options that several subcommands share."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

CONFIG_VARIABLE = "LIGHTSPEED_STACK_CONFIG_PATH"
CONFIG_DEFAULT = "lightspeed-stack.yaml"

type Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def config_option(text: str) -> Decorator:
    """Return the option `-c/--config`, which names lightspeed-stack.yaml."""
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help=f"{text}  [default: ${CONFIG_VARIABLE}, else {CONFIG_DEFAULT}]",
    )


def examples(*lines: str) -> str:
    """Return the end of a help page; click leaves these lines as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def config_path(given: Path | None) -> Path:
    """Return which lightspeed-stack.yaml is meant."""
    return given or Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_DEFAULT)


def verbose_option(*, quiet: bool = False) -> Decorator:
    """Return the option `-v/--verbose`, which shows this package's log on standard error.

    Args:
        quiet: without the option not even warnings are shown; the command says them itself.
    """

    def set_up(ctx: click.Context, _parameter: click.Parameter, count: int) -> None:
        if not ctx.resilient_parsing:
            _set_up_logging(count, quiet=quiet)

    return click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=set_up,
        help="Show what happens on standard error; -vv shows more.",
    )


def _set_up_logging(count: int, *, quiet: bool) -> None:
    logger = logging.getLogger("lightspeed_azure")
    if count:
        logger.setLevel(logging.INFO if count == 1 else logging.DEBUG)
        if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
            logger.addHandler(handler)
    elif quiet:
        for name in ("lightspeed_azure", "azure", "msal"):
            if not logging.getLogger(name).handlers:
                logging.getLogger(name).addHandler(logging.NullHandler())
