"""A stack's configuration file: read, enriched, and written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightspeed_azure.enrichment.advice import Note
from lightspeed_azure.enrichment.document import LARGEST, Document
from lightspeed_azure.enrichment.plan import apply_changes, plan
from lightspeed_azure.enrichment.providers import (
    ShapeError,
    all_providers,
    azure_providers,
    check_is_configuration,
    dotted,
    resolved,
    with_environment,
)
from lightspeed_azure.enrichment.rewriting import rewrite, to_flow_yaml
from lightspeed_azure.errors import InvalidConfigurationError

_WHOLE = frozenset(
    [
        "azure_entra_id",
        "credential_resolvers",
        "inference",
        "llama_stack",
        "name",
        "ogx",
        "provider_credentials",
        "proxy",
        "service",
        "user_data_collection",
    ]
)
"""Keys of a whole configuration; no `azure_entra_id` block has one of them."""


@dataclass(frozen=True, slots=True)
class Enriched:
    """The outcome of enriching a text.

    Attributes:
        before: the text as it was.
        after: the text as it is now; the same where nothing had to change.
        changes: what was changed, one line each, as `file:line: key: what`; lines of `before`.
        warnings: what the operator should look at, in the same form, each with its cure.
        fatal: those of the warnings without whose cure a stack with this environment does not start.
    """

    before: str
    after: str
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()


def enrich_text(
    text: str,
    name: str,
    identities: Sequence[str | None],
    *,
    repair: bool = True,
    drop_api_key: bool = False,
    expand_aliases: bool = False,
) -> Enriched:
    """Return a stack's configuration with the changes for Entra ID; the rest stays, to the byte.

    Args:
        text: run.yaml, or the same as JSON.
        name: what to call it in messages.
        identities: the `provider_id` of each identity, None for one that serves every provider;
            empty when Entra ID is not configured, and then nothing changes.
        repair: also put right what keeps a stack from starting without a key.
        drop_api_key: remove the `api_key` of Azure providers.
        expand_aliases: write the parsed content as one line of YAML. It is not for people to
            read, but works where an alias or a merge key prevents an edit of the text.

    Raises:
        InvalidConfigurationError: it cannot be read or edited; the text names line and key.
    """
    document = Document(text, name)

    def line(note: Note) -> str:
        where = f"{name}:{document.line(note.path) + 1}"
        return f"{where}: {dotted(note.path)}: {note.text}"

    try:
        check_is_configuration(document.value)
        todo = plan(document.value, identities, repair=repair, drop_api_key=drop_api_key)
    except ShapeError as error:
        where = document.line(error.line_of)
        problem = f"{dotted(error.path)}: {error.text}" if error.path else error.text
        raise document.error(where, problem) from None
    warnings = tuple(line(note) for note in todo.warnings)
    fatal = tuple(line(note) for note in todo.warnings if note.fatal)
    if not identities:
        return Enriched(text, text, warnings=warnings, fatal=fatal)
    if expand_aliases:
        after = to_flow_yaml(apply_changes(document.value, todo.changes))
    else:
        after = rewrite(document, todo.changes)
    return Enriched(
        text,
        after if todo.changes else text,
        tuple(line(Note(change.path, change.why)) for change in todo.changes),
        warnings,
        fatal,
    )


def endpoints_in(text: str, name: str) -> dict[str, str | None]:
    """Return provider_id → base_url of the Azure providers of run.yaml, as far as known here.

    Args:
        text: run.yaml, or the same as JSON.
        name: what to call it in messages.

    Raises:
        InvalidConfigurationError: it cannot be read.
    """
    document = Document(text, name)
    return {provider.name: provider.endpoint for provider in azure_providers(document.value)}


def providers_in(text: str, name: str) -> dict[str, str]:
    """Return provider_id → provider_type of every provider of run.yaml, as far as known here.

    Args:
        text: run.yaml, or the same as JSON.
        name: what to call it in messages.

    Raises:
        InvalidConfigurationError: it cannot be read.
    """
    document = Document(text, name)
    return {
        resolved(with_environment(entry.get("provider_id"))): resolved(
            with_environment(entry.get("provider_type"))
        )
        for entry in all_providers(document.value)
    }


def identities_of(config: Any) -> tuple[str | None, ...]:
    """Return the `provider_id` of each identity that `azure_entra_id` describes.

    Args:
        config: the block as model or mapping, a list of these, or None; or a whole configuration as
            model or mapping, whose `azure_entra_id` counts.
    """
    if isinstance(config, Mapping):
        if not _WHOLE.isdisjoint(config):
            config = config.get("azure_entra_id")
    elif hasattr(config, "azure_entra_id"):
        config = config.azure_entra_id
    if config is None:
        return ()
    blocks = config if isinstance(config, list | tuple) else [config]
    return tuple(
        block.get("provider_id")
        if isinstance(block, Mapping)
        else getattr(block, "provider_id", None)
        for block in blocks
    )


def identities_in(path: Path) -> tuple[str | None, ...]:
    """Return the same of an operator's lightspeed-stack.yaml; its values are not looked at.

    Raises:
        InvalidConfigurationError: the file cannot be read.
    """
    document = Document(read(path), str(path))
    if not isinstance(document.value, dict):
        raise document.error(
            document.root.start_mark.line, "is not a map of blocks, such as llama_stack:"
        )
    if "azure_entra_id" not in document.value:
        return ()
    block = document.value["azure_entra_id"]
    return identities_of({} if block is None else block)


def read(path: Path) -> str:
    """Return the text of a file, its byte order mark and line ends as they are.

    Raises:
        InvalidConfigurationError: it cannot be read, or is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(4 * LARGEST + 1)
    except FileNotFoundError:
        problem = "there is no such file; give its path, or create it"
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({reason(error)}); give a file, and check its rights"
    else:
        return decode(content, str(path))
    raise InvalidConfigurationError(f"{path}: {problem}")


def decode(content: bytes, name: str) -> str:
    """Return content as text.

    Raises:
        InvalidConfigurationError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"{name}:{line}: is not text in UTF-8; save it as that"
    raise InvalidConfigurationError(problem)


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600; one that is there is replaced.

    Raises:
        InvalidConfigurationError: it cannot be written.
    """
    temporary: Path | None = None
    problem = ""
    try:
        if path.exists() and not path.is_file():
            problem = "is not a file; give the name of one"
        else:
            target = Path(os.path.realpath(path))  # a link stays one
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".enriched.")
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8"))
            temporary.replace(target)
            temporary = None
    except (OSError, RuntimeError, ValueError) as error:
        problem = f"cannot be written ({reason(error)}); {_cure(error)}"
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    if problem:
        raise InvalidConfigurationError(f"{path}: {problem}")


def reason(error: Exception) -> str:
    """Return the system's words for why a file cannot be used, without its name."""
    return getattr(error, "strerror", None) or "not a path"


def _cure(error: Exception) -> str:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, or write to another disk"
    return "check the folder and its rights"
