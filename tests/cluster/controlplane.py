"""An API server, its store and one controller on loopback, without a node: for tests of what needs no pod.

The programs are those that the local cluster is built from. Starting takes seconds and needs no container.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster import gotools
from localcluster.shell import run

TOKEN = "loopback-only"
KEYS_CHART = """\
{{- $key := genSelfSignedCert "localhost" (list "127.0.0.1") (list "localhost") 1 }}
account: {{ genPrivateKey "rsa" | quote }}
certificate: {{ $key.Cert | quote }}
key: {{ $key.Key | quote }}
"""


@dataclass(frozen=True)
class ControlPlane:
    """Where it answers and where its keys are: account.pem, certificate.pem, key.pem."""

    folder: Path
    port: int

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator."""
        program = gotools.kubernetes() / "kubectl"
        return run(
            [program, f"--kubeconfig={self.folder / 'kubeconfig'}", *words], stdin=stdin, timeout_seconds=120
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def control_plane(folder: Path, *controllers: str) -> Iterator[ControlPlane]:
    """Start, wait until the API server is ready, and end everything afterwards."""
    plane = ControlPlane(folder, free_port())
    _write_keys(folder)
    _write_kubeconfig(plane)
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with ExitStack() as running:
        store = [
            "--data-dir",
            str(folder / "etcd"),
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ]
        store += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        running.enter_context(
            program([gotools.etcd(), *store, "--initial-cluster", f"default={peer}"], folder)
        )
        tools = gotools.kubernetes()
        running.enter_context(program([tools / "kube-apiserver", *_server_flags(plane, client)], folder))
        _await_ready(plane)
        words = [f"--kubeconfig={folder / 'kubeconfig'}", f"--controllers={','.join(controllers)}"]
        words += ["--horizontal-pod-autoscaler-sync-period=1s", "--leader-elect=false", "--secure-port=0"]
        running.enter_context(program([tools / "kube-controller-manager", *words], folder))
        yield plane


@contextmanager
def program(command: Sequence[str | Path], folder: Path) -> Iterator[None]:
    """Run it in the background; its output goes to a file named after it."""
    with (folder / f"{Path(command[0]).name}.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _server_flags(plane: ControlPlane, store: str) -> list[str]:
    account = f"{plane.folder}/account.pem"
    return [
        f"--etcd-servers={store}",
        f"--secure-port={plane.port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={plane.folder / 'certs'}",
        f"--token-auth-file={plane.folder / 'tokens'}",
        "--authorization-mode=RBAC",
        f"--service-account-key-file={account}",
        f"--service-account-signing-key-file={account}",
        "--service-account-issuer=https://loopback",
        "--service-cluster-ip-range=10.99.0.0/16",
    ]


def _write_keys(folder: Path) -> None:
    """Helm makes keys and certificates, so that the tests need no further program."""
    chart = folder / "keys"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text('{"apiVersion": "v2", "name": "keys", "version": "0.1.0"}')
    (chart / "templates" / "keys.yaml").write_text(KEYS_CHART)
    text = run([gotools.tool("helm"), "template", "keys", chart], timeout_seconds=60)
    for name, value in yaml.safe_load(text).items():
        (folder / f"{name}.pem").write_text(value)


def _write_kubeconfig(plane: ControlPlane) -> None:
    (plane.folder / "tokens").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    server = {"server": f"https://127.0.0.1:{plane.port}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": server}],
        "users": [{"name": "here", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    (plane.folder / "kubeconfig").write_text(json.dumps(config))


def _await_ready(plane: ControlPlane) -> None:
    kubectl = f"{gotools.kubernetes() / 'kubectl'} --kubeconfig={plane.folder / 'kubeconfig'}"
    asking = f"until {kubectl} get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done"
    run(["bash", "-c", asking], timeout_seconds=90)
