"""The agent's settings: who it is comes from the environment, all else has a default."""

from __future__ import annotations

import pytest

from diffusion_operator.node_agent.pod_resources import SOCKET
from diffusion_operator.node_agent.report import Identity
from diffusion_operator.node_agent.settings import read_settings

WHO = {"NODE_NAME": "gpu-1", "POD_NAMESPACE": "agents", "POD_NAME": "agent-x", "POD_UID": "uid-x"}


def test_identity_and_defaults() -> None:
    settings = read_settings([], WHO)
    assert settings.identity == Identity("gpu-1", "agents", "agent-x", "uid-x")
    assert (settings.socket, settings.http_port, settings.log_level) == (SOCKET, 8080, "info")
    assert settings.client.field_manager == settings.client.user_agent == "diffusion-node-agent"


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings([], {"POD_NAME": "agent-x", "POD_UID": ""})
    assert ended.value.code == 2
    assert "NODE_NAME, POD_NAMESPACE, POD_UID must be in the environment" in capsys.readouterr().err
