"""What an operator writes: our blocks of `lightspeed-stack.yaml`, checked all at once.

Only the blocks of `Configuration` are read; everything else in the file belongs to others.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightspeed_azure.config.credential_resolver import CredentialResolverConfiguration
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.llama_stack import LlamaStackConfiguration
from lightspeed_azure.config.problems import LocatedConfigurationError
from lightspeed_azure.config.provider_credentials import ProviderCredential
from lightspeed_azure.config.proxy import ProxyConfiguration
from lightspeed_azure.config.reader import Reader
from lightspeed_azure.config.unified import CONFIG_VARIABLE
from lightspeed_azure.config.yaml_file import YamlFile, YamlFileError, plain
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import redacted

__all__ = [
    "AzureEntraIdConfiguration",
    "Configuration",
    "CredentialResolverConfiguration",
    "LlamaStackConfiguration",
    "ProviderCredential",
    "ProxyConfiguration",
    "configuration_from_mapping",
    "load_configuration",
]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Our part of the operator's configuration.

    Attributes:
        azure_entra_id: the identities; none when Entra ID is not configured.
        llama_stack: where the stack is (the `ogx` block, or else `llama_stack`), or None when the
            file does not say.
        credential_resolvers: who answers for keys, as written.
        provider_credentials: what fills the fields of other providers.
        proxy: how the reverse proxy serves, or None when the file does not say.
    """

    azure_entra_id: tuple[AzureEntraIdConfiguration, ...] = ()
    llama_stack: LlamaStackConfiguration | None = None
    credential_resolvers: tuple[CredentialResolverConfiguration, ...] = ()
    provider_credentials: tuple[ProviderCredential, ...] = ()
    proxy: ProxyConfiguration | None = None


def load_configuration(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    allow_insecure: bool | None = None,
) -> Configuration:
    """Read the operator's file; may wait for the disk.

    Args:
        path: the file; when None, the one that LIGHTSPEED_STACK_CONFIG_PATH names, else
            `lightspeed-stack.yaml` in the working directory.
        environ: the environment to ask; the process's when None.
        allow_insecure: replaces the key of that name in the stack's block; None leaves it.

    Raises:
        InvalidConfigurationError: with every problem, each as `file:line: key: what; cure`.
    """
    named = (os.environ if environ is None else environ).get(CONFIG_VARIABLE)
    file = Path(path or named or "lightspeed-stack.yaml")
    reader = Reader(
        os.environ if environ is None else environ,
        written=True,
        folder=file.absolute().parent,
        allow_insecure=allow_insecure,
    )
    del environ  # a traceback with local variables would show all of it
    failure: InvalidConfigurationError
    try:
        yaml = YamlFile(file)
        return Configuration(*reader.read(plain(yaml.tree)))
    except YamlFileError as error:
        where = f"{file}:{error.line}" if error.line else str(file)
        failure = InvalidConfigurationError(error.problem.line(where))
    except LocatedConfigurationError as error:
        located = sorted(error.located, key=lambda problem: yaml.line_of(problem.key))
        failure = InvalidConfigurationError(
            *(problem.line(yaml.where(problem.key)) for problem in located)
        )
    raise failure


def configuration_from_mapping(
    data: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    where: str = "configuration",
    allow_insecure: bool | None = None,
) -> Configuration:
    """Read a configuration that somebody has parsed already; the files it names are not looked at.

    Args:
        data: the whole of `lightspeed-stack.yaml` as a mapping.
        environ: the environment to ask; the process's when None.
        where: what to call it in messages.
        allow_insecure: replaces the key of that name in the stack's block; None leaves it.

    Raises:
        InvalidConfigurationError: with every problem, each as `where: key: what; cure`.
    """
    data = redacted(data)
    reader = Reader(os.environ if environ is None else environ, allow_insecure=allow_insecure)
    del environ
    try:
        return Configuration(*reader.read(data))
    except LocatedConfigurationError as error:
        failure = InvalidConfigurationError(*(problem.line(where) for problem in error.located))
    raise failure
