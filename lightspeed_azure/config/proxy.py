"""The `proxy:` block: addresses, limits, time limits and routes of the reverse proxy."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.dependents import dependents as service_names
from lightspeed_azure.config.dependents import dependents_problems
from lightspeed_azure.config.inbound import InboundConfiguration, OpenInbound
from lightspeed_azure.config.inbound import inbound as inbound_block
from lightspeed_azure.config.problems import Problem
from lightspeed_azure.config.values import (
    SECONDS,
    Seconds,
    Unit,
    boolean,
    file_path,
    http_url,
    plain_text,
)

OURS = ("azure_api_key", "azure_api_base")
"""The fields of the provider data that the proxy fills itself; no caller may send them."""

IDENTITY_HEADERS = (
    "cf-access-*",
    "impersonate-*",
    "remote-*",
    "x-amzn-oidc-*",
    "x-auth-*",
    "x-authenticated-*",
    "x-consumer-*",
    "x-forwarded-*",
    "x-goog-authenticated-*",
    "x-goog-iap-*",
    "x-groups",
    "x-maas-*",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-principal*",
    "x-remote-*",
    "x-tenant*",
    "x-user*",
    "x-webauth-*",
)
"""Headers by which gateways tell a stack who the caller is.

OGX trusts whichever its operator names for `upstream_header` authentication; these are the examples
in its configuration (ogx/core/datatypes.py 1.5, UpstreamHeaderAuthConfig), and those in wide use.
"""


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list; write - before each")  # noqa: TRY004 - pydantic collects ValueError
    return tuple(plain_text(each) for each in value)


Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Size = Annotated[int, Field(ge=1024, le=1024**4, strict=True), Unit("bytes")]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Name = Annotated[str, BeforeValidator(plain_text)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
HostNames = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: tuple(map(str.lower, _names(value))))
]
File = Annotated[Path | None, BeforeValidator(file_path)]


class ProxyConfiguration(Block):
    """How `lightspeed-azure proxy` serves; docs/proxy.md describes every key.

    Attributes:
        host: the address that callers reach; loopback unless an operator says otherwise.
        port: its port; 0 takes a free one.
        admin_host: the address of `/metrics` and `/status` without authentication.
        admin_port: its port; 0 takes a free one.
        admin_names: host names by which operators call the admin port, in lower case; IP addresses
            and localhost always work.
        external_url: the URL by which callers know the proxy, as `/client-config` tells them.
        tls_certificate: PEM file with the certificate chain; read again when it changes.
        tls_key: PEM file with its private key.
        body_limit: bytes that the body of an inference request may have; it is held in memory.
        upload_limit: bytes that any other body may have; it is passed on as it comes.
        header_limit: bytes that the request line and headers of a request may have together.
        connection_limit: connections that may be open at each of the two ports.
        connect_timeout: seconds until the stack must have taken a connection.
        first_byte_timeout: seconds until its answer must have begun.
        idle_timeout: seconds that a body may stand still on either side.
        keep_alive: seconds that a caller's connection is kept without a request.
        drain_delay: seconds between SIGTERM and the end of listening, for load balancers.
        drain_limit: seconds that requests may take to end after that.
        provider_data: fields of provider data that callers may send, for other providers than Azure.
        routes: further paths of the stack that are let through, such as `/v1alpha/inference/rerank`.
        strip_headers: further request headers that never reach the stack; `*` at the end matches any rest.
        client_provider: the provider that `/client-config` names.
        client_model: the model that it names, with or without `<provider_id>/`.
        tracing: whether to make OpenTelemetry spans.
        dependents: names of services that wait for the proxy, each with a condition in `/status`.
        inbound: who may call.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    host: Name = "127.0.0.1"
    port: Port = 8080
    admin_host: Name = "127.0.0.1"
    admin_port: Port = 8081
    admin_names: HostNames = ()
    external_url: Annotated[str | None, BeforeValidator(http_url)] = None
    tls_certificate: File = None
    tls_key: File = None
    body_limit: Size = 32 * 1024**2
    upload_limit: Size = 512 * 1024**2
    header_limit: Size = 64 * 1024
    connection_limit: Count = 1000
    connect_timeout: Seconds = 5.0
    first_byte_timeout: Seconds = 180.0
    idle_timeout: Seconds = 120.0
    keep_alive: Seconds = 75.0
    drain_delay: Annotated[
        float, Field(ge=0, le=3600, strict=True, allow_inf_nan=False), SECONDS
    ] = 0.0
    drain_limit: Seconds = 25.0
    provider_data: Names = ()
    routes: Names = ()
    strip_headers: Names = ()
    client_provider: Annotated[str | None, BeforeValidator(plain_text)] = None
    client_model: Annotated[str | None, BeforeValidator(plain_text)] = None
    tracing: Annotated[StrictBool, BeforeValidator(boolean)] = False
    dependents: Annotated[tuple[str, ...], BeforeValidator(service_names)] = ()
    inbound: Annotated[InboundConfiguration, BeforeValidator(inbound_block)] = OpenInbound()

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        problems: list[Problem] = []
        for one, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
            if one in given and other not in given:
                problems.append(Problem((other,), f"is missing; {one} needs it"))
        problems += dependents_problems(given)
        problems += _each(given, "admin_names", _host_fault)
        problems += _each(given, "provider_data", _field_fault)
        problems += _each(given, "routes", _route_fault)
        problems += _each(given, "strip_headers", _header_fault)
        return problems


def _each(given: Mapping[str, Any], key: str, fault: Any) -> list[Problem]:
    values = given.get(key)
    if not isinstance(values, list | tuple):
        return []
    return [
        Problem((key, index), text)
        for index, value in enumerate(values)
        if isinstance(value, str) and (text := fault(value.strip()))
    ]


def _field_fault(name: str) -> str:
    if name.lower() in OURS:
        return "is filled by the proxy itself; remove it"
    if not re.fullmatch(r"\w+", name):
        return "must be the name of a field, such as openai_api_key"
    return ""


def _route_fault(path: str) -> str:
    if not re.fullmatch(r"/v\w+(/[\w-]+)+", path):
        return "must be the beginning of a path of the stack's, such as /v1alpha/inference/rerank"
    return ""


def _host_fault(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
        return "must be a host name without scheme and port, such as llm-proxy.example"
    return ""


def _header_fault(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+\*?", name):
        return "must be the name of a header; only its end may be a *"
    return ""
