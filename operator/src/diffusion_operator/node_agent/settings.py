"""Settings of the node agent: flags, else environment, else the default. Read once, frozen."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_operator.kube.rest import ClientSettings
from diffusion_operator.node_agent.pod_resources import SOCKET
from diffusion_operator.node_agent.report import Identity

FIELD_MANAGER = "diffusion-node-agent"
# What the downward API must tell; without it a report would have no name.
IDENTITY = {
    "node": "NODE_NAME",
    "namespace": "POD_NAMESPACE",
    "pod": "POD_NAME",
    "pod_uid": "POD_UID",
}


@dataclass(frozen=True)
class AgentSettings:
    """All settings."""

    identity: Identity
    client: ClientSettings
    socket: Path = SOCKET
    http_port: int = 8080
    log_level: str = "info"


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> AgentSettings:
    """Parse the command line; argparse exits with 2 and one sentence on bad input."""
    parser = argparse.ArgumentParser(
        prog="diffusion-node-agent", description="Reports the GPU memory of one node as a GPUNode."
    )
    parser.add_argument("--kubeconfig", default=None, help="Kubeconfig file; default: the service account.")
    parser.add_argument("--pod-resources", type=Path, default=SOCKET, help="The kubelet's socket.")
    parser.add_argument("--http-port", type=int, default=8080, help="Port of /livez and /readyz.")
    parser.add_argument(
        "--log-level",
        default=environment.get("DIFFUSION_LOG_LEVEL", "info"),
        choices=("debug", "info", "warning", "error"),
    )
    given = parser.parse_args(arguments)
    missing = [variable for variable in IDENTITY.values() if not environment.get(variable)]
    if missing:
        parser.error(f"{', '.join(missing)} must be in the environment; the chart sets them for each pod")
    return AgentSettings(
        identity=Identity(**{field: environment[variable] for field, variable in IDENTITY.items()}),
        client=ClientSettings(
            kubeconfig=given.kubeconfig,
            user_agent=FIELD_MANAGER,
            field_manager=FIELD_MANAGER,
            rate_per_s=1.0,
            burst=5,
        ),
        socket=given.pod_resources,
        http_port=given.http_port,
        log_level=given.log_level,
    )
