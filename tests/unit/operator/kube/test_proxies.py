"""A proxy of the environment or the kubeconfig serves requests and watches alike; it is looked up once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffusion_operator.kube.listening import listening_session
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient, load_configuration
from wire.fakeapi import kubeconfig

SERVER = "https://api.cluster.example:6443"
OURS = "http://proxy.example:3128"


class Nobody:
    """A listener that wants nothing."""

    def chunk(self, path: str, items: list[Any], *, first: bool) -> bool:
        return False

    def listed(self, path: str, version: str) -> None: ...

    def told(self, path: str, event: Any) -> bool:
        return False

    def heard(self, path: str) -> None: ...

    def refused(self, path: str, status: int, message: str) -> bool:
        return False


def written(folder: Path, **cluster: str) -> ClientSettings:
    """Settings with a kubeconfig whose cluster has these further entries."""
    content = kubeconfig(SERVER)
    content["clusters"][0]["cluster"] |= cluster
    file = folder / "kubeconfig"
    file.write_text(json.dumps(content))
    return ClientSettings(kubeconfig=str(file))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "cluster", "proxy"),
    [
        ({}, {}, None),
        ({"HTTPS_PROXY": OURS}, {}, OURS),
        ({"HTTP_PROXY": OURS}, {}, None),
        ({"HTTPS_PROXY": OURS, "NO_PROXY": "10.0.0.0/8,cluster.example"}, {}, None),
        ({"HTTPS_PROXY": "http://other.example:1"}, {"proxy-url": OURS}, OURS),
    ],
    ids=["none", "https", "of another scheme", "excepted", "kubeconfig first"],
)
async def test_which_proxy(
    environment: dict[str, str],
    cluster: dict[str, str],
    proxy: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = written(tmp_path, **cluster)
    configuration = await load_configuration(settings)
    client, session = (
        RestKubeClient(configuration, settings),
        await listening_session(configuration, Nobody()),
    )
    try:
        assert client._api.rest_client.proxy == proxy
        assert session._default_proxy == proxy
        assert not session.trust_env
    finally:
        await client.close()
        await session.close()
