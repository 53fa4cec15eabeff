"""What operators write when something goes wrong: a table, and the files that it names."""

import textwrap
from pathlib import Path

CANARY = "cAn4ry~s3cret"
IDS = "  tenant_id: t\n  client_id: c\n"
SECRET = f"  client_secret: {CANARY}\n"

# (what the operator wrote, the line and the key that the message names, words that it says)
ENTRA: list[tuple[str, int, str, str]] = [
    # keys
    (f"  client_sercet: {CANARY}\n" + IDS, 2, "client_sercet", "did you mean client_secret?"),
    (IDS + SECRET + "  scopes: x\n", 5, "scopes", "did you mean scope?"),
    (IDS + SECRET + "  Tenant-ID: t\n", 5, "Tenant-ID", "did you mean tenant_id?"),
    (IDS + SECRET + f"  zzz: {CANARY}\n", 5, "zzz", "the keys are authority_host"),
    (IDS + SECRET + "  7: x\n", 5, "7", "there is no such key"),
    (IDS + f"  {CANARY}\n", 4, "", "is not valid YAML"),
    (f"  - {CANARY}\n", 2, "azure_entra_id[0]", "must be a map"),
    (f"  {CANARY}\n", 1, "azure_entra_id", "must be a map"),
    ("  true\n", 1, "azure_entra_id", "must be a map"),
    ("  []\n", 1, "azure_entra_id", "empty list"),
    # tenant and application
    ("  client_id: c\n" + SECRET, 1, "tenant_id", "is missing; add it, or set AZURE_TENANT_ID"),
    ("  tenant_id: t\n" + SECRET, 1, "client_id", "is missing; add it, or set AZURE_CLIENT_ID"),
    ("  tenant_id: 5\n  client_id: c\n" + SECRET, 2, "tenant_id", "put the value in quotes"),
    ("  tenant_id: [t]\n  client_id: c\n" + SECRET, 2, "tenant_id", "must be text"),
    ("  tenant_id: ''\n  client_id: c\n" + SECRET, 2, "tenant_id", "is empty"),
    ("  tenant_id: <yours>\n  client_id: c\n" + SECRET, 2, "tenant_id", "is a placeholder"),
    (f"  tenant_id: t\n  client_id: c d {CANARY}\n" + SECRET, 3, "client_id", "must be an id"),
    (
        f"  tenant_id: https://x/{CANARY}\n  client_id: c\n" + SECRET,
        2,
        "tenant_id",
        "must be an id",
    ),
    # the secret
    (IDS + "  client_secret: ''\n", 4, "client_secret", "is empty"),
    (IDS + "  client_secret: '   '\n", 4, "client_secret", "is empty"),
    (IDS + "  client_secret: 12345\n", 4, "client_secret", "put the value in quotes"),
    (IDS + "  client_secret: true\n", 4, "client_secret", "put the value in quotes"),
    (IDS + f"  client_secret: [{CANARY}]\n", 4, "client_secret", "must be text"),
    (IDS + f"  client_secret: {{{CANARY}: 1}}\n", 4, "client_secret", "must be text"),
    (IDS + f'  client_secret: "a\\n{CANARY}"\n', 4, "client_secret", "line break"),
    (IDS + "  client_secret: ${env.UNSET}\n", 4, "client_secret", "variable UNSET is not set"),
    (IDS + "  client_secret: ${env.EMPTY}\n", 4, "client_secret", "variable EMPTY is empty"),
    (IDS + "  client_secret: *anchor\n", 4, "", "is not valid YAML"),
    (IDS + f"  client_secret: *{CANARY}\n", 4, "", "is not valid YAML"),
    (IDS + f"  client_secret: @{CANARY}\n", 4, "", "is not valid YAML"),
    (IDS + f"  client_secret: '{CANARY}\n", 4, "", "is not valid YAML"),
    (IDS + f"  client_secret: {CANARY}: x\n", 4, "", "is not valid YAML"),
    (IDS + f"  client_secret: %{CANARY}\n", 4, "", "is not valid YAML"),
    (IDS + SECRET + f"  client_secret: {CANARY}2\n", 5, "", "a key is given twice"),
    # which way to sign in
    (IDS, 1, "azure_entra_id", "says no way to sign in"),
    ("  {}\n", 1, "azure_entra_id", "or set one of AZURE_CLIENT_SECRET"),
    (IDS + "  azure_cli: false\n", 1, "azure_entra_id", "says no way to sign in"),
    (IDS + SECRET + "  default: true\n", 5, "default", "client_secret and default exclude"),
    (IDS + SECRET + f"  client_secret_path: /{CANARY}\n", 5, "client_secret_path", "exclude"),
    (IDS + "  azure_cli: true\n  default: true\n", 5, "default", "exclude each other"),
    (IDS + SECRET + "  managed_identity: system\n", 5, "managed_identity", "exclude each other"),
    (IDS + SECRET + "  federated_token_file: /x\n", 5, "federated_token_file", "exclude"),
    (IDS + SECRET + "  credential: a:b\n", 5, "credential", "exclude each other"),
    # managed identity
    ("  managed_identity: user\n", 2, "managed_identity", "must be system, or a map"),
    ("  managed_identity: true\n", 2, "managed_identity", "must be system, or a map"),
    ("  managed_identity:\n", 2, "managed_identity", "has no value"),
    ("  managed_identity: {}\n", 2, "managed_identity", "exactly one of client_id"),
    ("  managed_identity: {clientid: x}\n", 2, "managed_identity", "did you mean client_id?"),
    ("  managed_identity: {client_id: 5}\n", 2, "managed_identity", "put the value in quotes"),
    ("  managed_identity: {client_id: a, object_id: b}\n", 2, "managed_identity", "exactly one"),
    (
        "  managed_identity: system\n  client_id: x\n",
        3,
        "client_id",
        "managed_identity: {client_id",
    ),
    # certificates and files
    (IDS + f"  client_secret_path: {CANARY}\n", 4, "client_secret_path", "there is no such file"),
    (IDS + "  client_secret_path: /dev/null\n", 4, "client_secret_path", "not a regular file"),
    (
        IDS + "  client_secret_path: {tmp}\n",
        4,
        "client_secret_path",
        "without a file client_secret",
    ),
    (IDS + "  client_secret_path: {tmp}/empty\n", 4, "client_secret_path", "is empty"),
    (IDS + "  client_secret_path: {tmp}/binary\n", 4, "client_secret_path", "is not text"),
    (IDS + "  client_secret_path: {tmp}/lines\n", 4, "client_secret_path", "more than one line"),
    (IDS + "  client_secret_path: {tmp}/large\n", 4, "client_secret_path", "larger than 1 MiB"),
    (IDS + "  client_secret_path: 5\n", 4, "client_secret_path", "must be text"),
    (IDS + f"  certificate_path: {CANARY}.pem\n", 4, "certificate_path", "there is no such file"),
    (IDS + "  certificate_path: {tmp}/secret\n", 4, "certificate_path", "not a whole certificate"),
    (
        IDS + "  certificate_path: {tmp}/half.pem\n",
        4,
        "certificate_path",
        "not a whole certificate",
    ),
    (IDS + f"  certificate_password: {CANARY}\n" + SECRET, 4, "certificate_password", "belongs to"),
    (IDS + "  send_certificate_chain: true\n" + SECRET, 4, "send_certificate_chain", "belongs to"),
    (IDS + "  federated_token_file: {tmp}/secret\n", 4, "federated_token_file", "no signed JWT"),
    (IDS + "  federated_token_file: {tmp}/none\n", 4, "federated_token_file", "no such file"),
    (IDS + SECRET + "  ca_bundle: {tmp}/none\n", 5, "ca_bundle", "there is no such file"),
    (IDS + SECRET + "  ca_bundle: {tmp}/secret\n", 5, "ca_bundle", "holds no certificate in PEM"),
    (IDS + SECRET + "  ca_bundle: {tmp}\n", 5, "ca_bundle", "cannot be read (Is a directory)"),
    # foreign credentials
    (f"  credential: {CANARY}\n", 2, "credential", "package.module:factory"),
    ("  credential: a.b\n", 2, "credential", "package.module:factory"),
    ("  credential: 'a:b c'\n", 2, "credential", "package.module:factory"),
    # clouds
    (
        IDS + SECRET + "  cloud: germany\n",
        5,
        "cloud",
        "must be one of public, us_government, china",
    ),
    (IDS + SECRET + "  cloud: 1\n", 5, "cloud", "must be text"),
    (IDS + SECRET + "  authority_host: http://x\n", 5, "authority_host", "must be an https URL"),
    (IDS + SECRET + "  authority_host: x\n", 5, "authority_host", "is not a URL"),
    (IDS + SECRET + f"  authority_host: https://u:{CANARY}@x\n", 5, "authority_host", "password"),
    (IDS + SECRET + "  authority_host: https://x/t\n", 5, "authority_host", "the host alone"),
    (IDS + SECRET + f"  authority_host: https://x?a={CANARY}\n", 5, "authority_host", "the query"),
    (IDS + SECRET + "  authority_host: https://x:port\n", 5, "authority_host", "is not a URL"),
    (
        IDS + SECRET + "  cloud: china\n  authority_host: https://login.microsoftonline.us/\n",
        6,
        "authority_host",
        "is that of cloud us_government, not china",
    ),
    (IDS + SECRET + "  scope: https://x\n", 5, "scope", "must end in /.default"),
    (IDS + SECRET + "  scope: a/.default b/.default\n", 5, "scope", "must be one scope"),
    (IDS + SECRET + "  scope: ''\n", 5, "scope", "is empty"),
    # numbers and booleans
    (IDS + SECRET + "  prefetch: yes\n", 5, "prefetch", "must be true or false"),
    (IDS + SECRET + "  prefetch: 1\n", 5, "prefetch", "must be true or false"),
    (IDS + SECRET + f"  prefetch: {CANARY}\n", 5, "prefetch", "must be true or false"),
    (IDS + SECRET + "  prefetch: ${env.ONE}\n", 5, "prefetch", "must be true or false"),
    ("  azure_cli: maybe\n", 2, "azure_cli", "must be true or false"),
    ("  default: 'on'\n", 2, "default", "must be true or false"),
    (IDS + SECRET + "  deadline: 0\n", 5, "deadline", "more than 0"),
    (IDS + SECRET + "  deadline: -1\n", 5, "deadline", "more than 0"),
    (IDS + SECRET + "  deadline: .inf\n", 5, "deadline", "must be a finite number of seconds"),
    (IDS + SECRET + "  deadline: .nan\n", 5, "deadline", "must be a finite number of seconds"),
    (IDS + SECRET + "  deadline: 1e9\n", 5, "deadline", "at most 3600"),
    (IDS + SECRET + "  deadline: '15'\n", 5, "deadline", "without quotes"),
    (IDS + SECRET + "  deadline: true\n", 5, "deadline", "a number of seconds"),
    (IDS + SECRET + "  deadline: 15s\n", 5, "deadline", "a number of seconds"),
    (IDS + SECRET + "  deadline: ${env.NAME}\n", 5, "deadline", "a number of seconds"),
    # several identities
    (
        (
            "  - {tenant_id: t, client_id: c, client_secret: s, provider_id: a}\n"
            "  - {tenant_id: t, client_id: c, client_secret: s, provider_id: a}\n"
        ),
        3,
        "azure_entra_id[1].provider_id",
        "is that of azure_entra_id[0] too",
    ),
    (
        (
            "  - {tenant_id: t, client_id: c, client_secret: s, provider_id: a}\n"
            "  - {tenant_id: t, client_id: c, client_secret: s}\n"
        ),
        3,
        "azure_entra_id[1].provider_id",
        "is missing; with several identities",
    ),
    (
        (
            "  - provider_id: a\n    tenant_id: t\n    client_id: c\n"
            f"    client_secret: {CANARY}\n    prefetch: x\n"
        ),
        6,
        "azure_entra_id[0].prefetch",
        "must be true or false",
    ),
    (IDS + SECRET + "  provider_id: 5\n", 5, "provider_id", "must be text"),
]

LLAMA: list[tuple[str, int, str, str]] = [
    ("  {}\n", 1, "url", "is missing; add it, or set use_as_library_client: true"),
    ("  use_as_library_client: false\n", 1, "url", "is missing"),
    ("  use_as_library_client: yes\n", 2, "use_as_library_client", "must be true or false"),
    ("  use_as_library_client: true\n", 1, "library_client_config_path", "is missing"),
    (
        "  use_as_library_client: true\n  library_client_config_path: {tmp}/none\n",
        3,
        "library_client_config_path",
        "there is no such file",
    ),
    ("  url: localhost:8321\n", 2, "url", "is not a URL"),
    ("  url: ftp://localhost\n", 2, "url", "is not a URL"),
    ("  url: 8321\n", 2, "url", "must be text"),
    (f"  url: http://u:{CANARY}@localhost\n", 2, "url", "user name or password"),
    ("  url: http://llama-stack:8321\n", 2, "url", "plain HTTP to another machine"),
    ("  url: http://localhost.example.com\n", 2, "url", "plain HTTP to another machine"),
    ("  url: http://10.0.0.1\n  allow_insecure: false\n", 2, "url", "plain HTTP"),
    ("  url: http://10.0.0.1\n  allow_insecure: sure\n", 3, "allow_insecure", "true or false"),
    ("  urll: http://localhost\n", 2, "urll", "did you mean url?"),
    (f"  url: http://localhost\n  api_kye: {CANARY}\n", 3, "api_kye", "did you mean api_key?"),
    ("  url: http://localhost\n  timeout: 0\n", 3, "timeout", "more than 0"),
    ("  url: http://localhost\n  timeout: '9'\n", 3, "timeout", "without quotes"),
    ("  url: http://localhost\n  api_key: 5\n", 3, "api_key", "must be text"),
    ("  url: ${env.UNSET}\n", 2, "url", "variable UNSET is not set"),
    ("  url: https://x\n  ca_bundle: {tmp}/secret\n", 3, "ca_bundle", "no certificate in PEM"),
    (f"  {CANARY}\n", 1, "llama_stack", "must be a map"),
]

WHOLE: list[tuple[str, int, str, str]] = [
    (f"{CANARY}\n", 1, "", "must be a map of blocks"),
    ("- a\n", 1, "", "must be a map of blocks"),
    ("azure_entra_di:\n  tenant_id: t\n", 1, "azure_entra_di", "did you mean azure_entra_id?"),
    ("llamastack:\n  url: x\n", 1, "llamastack", "did you mean llama_stack?"),
    (f"a:\n\tb: {CANARY}\n", 2, "", "is not valid YAML"),
    (f"a: [{CANARY}\n", 2, "", "is not valid YAML"),
]

ENVIRON = {"EMPTY": "", "ONE": "1", "NAME": CANARY}

CASES = [
    *(("azure_entra_id:\n" + block, *rest) for block, *rest in ENTRA),
    *(("llama_stack:\n" + block, *rest) for block, *rest in LLAMA),
    *WHOLE,
]


def write_bad_files(folder: Path) -> None:
    """Write the files that `{tmp}/…` names: none of them is any good."""
    (folder / "empty").write_text(" \n")
    (folder / "binary").write_bytes(b"\xff\xfe\x00" + CANARY.encode())
    (folder / "lines").write_text(f"one\n{CANARY}\n")
    (folder / "large").write_text("x" * (1 << 20) + CANARY)
    (folder / "secret").write_text(CANARY)
    (folder / "half.pem").write_text(
        textwrap.dedent(f"""\
            -----BEGIN PRIVATE KEY-----
            {CANARY}
            """)
    )
