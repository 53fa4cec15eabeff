"""`${env.NAME}` as the stacks substitute it, and text that looks like a substitution but is none."""

import re

REFERENCE = re.compile(r"\$\{env\.([A-Z0-9_]+)(?::([=+])([^}]*))?\}")
"""`${env.NAME}`, `${env.NAME:=default}` and `${env.NAME:+value}`
(`llama_stack.core.stack.replace_env_vars`, 0.7.3)."""

_MALFORMED = re.compile(r"\$\{env\.(\w*)(:?)")

_OTHER = re.compile(
    r"""\$\{\s*([A-Za-z_]\w*)\s*(?:\}|:?[-=?+])   # ${NAME}, ${NAME:-default}: a shell, Docker Compose
      | \{\{\s*([A-Za-z_]\w*)?.*?\}\}               # {{ NAME }}, {{ .Values.x }}: Jinja, Helm
      | ^\$\(?([A-Za-z_]\w*)\)?$                 # $NAME, $(NAME): a shell, Kubernetes
      | ^%([A-Za-z_]\w*)%$                       # %NAME%: Windows
    """,
    re.VERBOSE | re.DOTALL,
)
_PLACEHOLDER = re.compile(r"<[^<>]+>")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def malformed_reference(text: str) -> str:
    """Return what is wrong with a `${env.…}` that no stack substitutes, with its cure, or "".

    The result never repeats a default.
    """
    if any("${env." in (match[3] or "") for match in REFERENCE.finditer(text)):
        return "holds a ${env.…} inside another one, which is not substituted; write one of them"
    match = _MALFORMED.search(rest := REFERENCE.sub("", text))
    if match is None:
        return ""
    name, colon = match.groups()
    if not _NAME.fullmatch(name):
        return (
            "holds ${env.…} without a valid name, so it is not substituted; write ${env.NAME}, "
            "with a name of capital letters, digits and underscores"
        )
    if "}" not in rest[match.end() :]:
        return f"holds ${{env.{name} without a closing brace; write ${{env.{name}}}"
    if colon:
        return (
            f"holds ${{env.{name}:…}}, which is not substituted; write ${{env.{name}:=…}} to give "
            "a default"
        )
    return f"holds ${{env.{name}…}}, which is not substituted; write ${{env.{name}}}"


def unsubstituted(text: str) -> str:
    """Return why a value is a template that nothing fills in, with its cure, or "".

    Covers `${env.NAME}` and the syntax of other tools: `${NAME}`, `{{ NAME }}`, `$NAME`, `$(NAME)`,
    `%NAME%`, `<placeholder>`. The result repeats a variable's name, and nothing else of the value.
    """
    if problem := malformed_reference(text):
        return problem
    if REFERENCE.search(text):
        return "holds ${env.…}, which is only substituted in a file; give the value itself"
    if _PLACEHOLDER.fullmatch(text):
        return "is a placeholder in angle brackets; write the value itself"
    match = _OTHER.search(text)
    if match is None:
        return ""
    found = next((name for name in match.groups() if name), "").upper()
    name = found if _NAME.fullmatch(found) else "NAME"
    return f"is a template that nothing fills in; write ${{env.{name}}}"
