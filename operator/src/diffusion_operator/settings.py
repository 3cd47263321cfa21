"""Settings of the operator process: flags, else environment, else the default. Read once, frozen."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from diffusion_operator.api.base import ApiModel, DnsLabel
from diffusion_operator.inventory.hardware import parse_driver
from diffusion_operator.inventory.pools import BadPools, parse_pools
from diffusion_operator.kube.lease import LeaseSettings
from diffusion_operator.kube.rest import ClientSettings
from diffusion_operator.logs import FORMATS
from diffusion_operator.placement.groups import Terms
from diffusion_operator.render.settings import NetworkPolicySettings, RenderSettings

# The engine image carries torch for CUDA 13, which needs driver 580 or newer (CUDA compatibility guide, minor
# version compatibility). A test holds it against the torch in uv.lock.
MINIMUM_DRIVER = "580"
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class OperatorSettings:
    """All settings. No namespaces means all namespaces."""

    render: RenderSettings
    client: ClientSettings = field(default_factory=ClientSettings)
    namespaces: tuple[str, ...] = ()
    workers: int = 8
    http_port: int = 8080
    log_level: str = "info"
    log_format: str = "text"
    instance: str = "diffusion-operator"
    terms: Terms = field(default_factory=Terms)
    # None: no election. For one process alone, as on a developer's machine.
    lease: LeaseSettings | None = None


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> OperatorSettings:
    """Parse the command line; argparse exits with 2 and one sentence on bad input."""
    parser = _parser(environment)
    given = parser.parse_args(arguments)
    if not given.engine_image:
        parser.error("--engine-image (or DIFFUSION_ENGINE_IMAGE) is needed: the image that engine pods run")
    if given.log_level not in LOG_LEVELS:
        parser.error(f"--log-level is {given.log_level!r}; use one of {', '.join(LOG_LEVELS)}")
    if given.log_format not in FORMATS:
        parser.error(f"--log-format is {given.log_format!r}; use one of {', '.join(FORMATS)}")
    if given.engine_image_pull_policy not in PULL_POLICIES:
        parser.error(
            f"--engine-image-pull-policy is {given.engine_image_pull_policy!r}; "
            f"use one of {', '.join(PULL_POLICIES)}"
        )
    try:
        terms = Terms(parse_pools(given.node_pools), parse_driver(given.minimum_driver))
    except BadPools as error:
        parser.error(f"--node-pools: {error}")
    except ValueError as error:
        parser.error(f"--minimum-driver: {error}")
    instance = environment.get("HOSTNAME") or socket.gethostname()
    return OperatorSettings(
        render=RenderSettings(
            given.engine_image,
            given.engine_image_pull_policy,
            network_policy=_network_policy(parser, given.network_policy),
            hub_endpoint=given.hub_endpoint,
        ),
        client=ClientSettings(
            kubeconfig=given.kubeconfig or None, rate_per_s=given.api_qps, burst=given.api_burst
        ),
        namespaces=tuple(name.strip() for name in given.namespaces.split(",") if name.strip()),
        workers=given.workers,
        http_port=given.http_port,
        log_level=given.log_level,
        log_format=given.log_format,
        instance=instance,
        terms=terms,
        lease=_lease(given.lease_namespace, given.lease_name, instance),
    )


def _lease(namespace: str, name: str, instance: str) -> LeaseSettings | None:
    # A container that restarts in its pod is another candidate: the one before may still have a write out.
    return LeaseSettings(namespace, f"{instance}_{uuid4().hex[:8]}", name) if namespace else None


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diffusion-operator", description="Plans and serves diffusion models."
    )

    def add(flag: str, variable: str, default: str, help_text: str) -> None:
        value = environment.get(variable, default)
        parser.add_argument(flag, default=value, help=f"{help_text} Environment: {variable}.")

    add("--engine-image", "DIFFUSION_ENGINE_IMAGE", "", "Image that engine pods run.")
    add(
        "--engine-image-pull-policy", "DIFFUSION_ENGINE_IMAGE_PULL_POLICY", "IfNotPresent", "Its pull policy."
    )
    add("--hub-endpoint", "DIFFUSION_HUB_ENDPOINT", "", "Model hub or mirror; empty: the public hub.")
    add("--namespaces", "DIFFUSION_NAMESPACES", "", "Namespaces to serve, comma separated; empty: all.")
    add("--kubeconfig", "DIFFUSION_KUBECONFIG", "", "Kubeconfig file; empty: the pod's service account.")
    add("--log-format", "DIFFUSION_LOG_FORMAT", "text", "text or json.")
    add(
        "--network-policy",
        "DIFFUSION_NETWORK_POLICY",
        "",
        "JSON with operatorNamespace, monitoringNamespaces and apiFrom; empty: no NetworkPolicy is made.",
    )
    add("--node-pools", "DIFFUSION_NODE_POOLS", "[]", "Pools that can grow, a JSON list as the Helm value.")
    add(
        "--minimum-driver",
        "DIFFUSION_MINIMUM_DRIVER",
        MINIMUM_DRIVER,
        "Oldest NVIDIA driver that the engine image takes; nodes labelled with an older one are left out.",
    )
    add(
        "--lease-namespace",
        "DIFFUSION_LEASE_NAMESPACE",
        "",
        "Namespace of the leader's Lease; empty: no election, for one process alone.",
    )
    add("--lease-name", "DIFFUSION_LEASE_NAME", "diffusion-operator", "Name of that Lease.")
    add("--log-level", "DIFFUSION_LOG_LEVEL", "info", "debug, info, warning or error.")
    parser.add_argument("--workers", type=_positive, default=8, help="Reconciles at a time.")
    parser.add_argument("--http-port", type=_port, default=8080, help="Port of /livez, /readyz and /metrics.")
    parser.add_argument(
        "--api-qps", type=_positive, default=200, help="Requests per second to the API server."
    )
    parser.add_argument(
        "--api-burst", type=_positive, default=400, help="Requests at once to the API server."
    )
    return parser


def _network_policy(parser: argparse.ArgumentParser, text: str) -> NetworkPolicySettings | None:
    if not text:
        return None
    try:
        given = _NetworkPolicy.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "it"
        parser.error(f"--network-policy is not what is expected: {place}: {problem['msg']}")
    return NetworkPolicySettings(
        given.operator_namespace, tuple(given.monitoring_namespaces), tuple(given.api_from)
    )


class _NetworkPolicy(ApiModel):
    """The flag's JSON. Peers are passed on as they are: the API server knows what a peer may say."""

    operator_namespace: DnsLabel
    monitoring_namespaces: tuple[DnsLabel, ...] = ()
    api_from: tuple[dict[str, Any], ...] = ()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is no port; use 0 (any free one) to 65535")
    return value
