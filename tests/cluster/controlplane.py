"""An API server, its store and one controller on loopback, without a node: for tests of what needs no pod.

The programs are those that the local cluster is built from. Starting takes seconds and needs no container.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster import gotools
from localcluster.shell import run

TOKEN = "loopback-only"
OPERATOR_TOKEN, OPERATOR_USER = "loopback-operator", "the-operator"
KEYS_CHART = """\
{{- $key := genSelfSignedCert "localhost" (list "127.0.0.1") (list "localhost") 1 }}
account: {{ genPrivateKey "rsa" | quote }}
certificate: {{ $key.Cert | quote }}
key: {{ $key.Key | quote }}
"""


@dataclass
class Part:
    """A program that can be ended and started again; its output goes to a file named after it."""

    command: Sequence[str | Path]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = list(map(str, self.command))
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that waits for its clients to go."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        self.process = None


@dataclass(frozen=True)
class ControlPlane:
    """Where it answers and where its keys are: account.pem, certificate.pem, key.pem."""

    folder: Path
    port: int
    store: Part
    server: Part
    controllers: Part

    def start_server(self) -> None:
        """Start the API server and wait until it is ready."""
        self.server.start()
        _await_ready(self)

    def stop_all(self) -> None:
        """End the controllers, the API server and the store."""
        self.controllers.stop()
        self.server.stop()
        self.store.stop()

    def start_all(self) -> None:
        """Start store and API server, wait until they are ready, then start the controllers.

        These keep what they have seen of a store, so they must not outlive it.
        """
        self.store.start()
        self.start_server()
        self.controllers.start()

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
    tools, port = gotools.kubernetes(), free_port()
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    store = Part([gotools.etcd(), *_store_flags(folder, client, peer)], folder / "etcd.log")
    server = Part(
        [tools / "kube-apiserver", *_server_flags(folder, port, client)], folder / "kube-apiserver.log"
    )
    words = [f"--kubeconfig={folder / 'kubeconfig'}", f"--controllers={','.join(controllers)}"]
    words += ["--horizontal-pod-autoscaler-sync-period=1s", "--leader-elect=false", "--secure-port=0"]
    manager = Part([tools / "kube-controller-manager", *words], folder / "kube-controller-manager.log")
    plane = ControlPlane(folder, port, store, server, manager)
    _write_keys(folder)
    _write_kubeconfig(plane)
    try:
        plane.start_all()
        yield plane
    finally:
        plane.stop_all()


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


def _store_flags(folder: Path, client: str, peer: str) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


def _server_flags(folder: Path, port: int, store: str) -> list[str]:
    account = f"{folder}/account.pem"
    return [
        f"--etcd-servers={store}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens'}",
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
    tokens = f'{TOKEN},admin,admin,"system:masters"\n{OPERATOR_TOKEN},{OPERATOR_USER},{OPERATOR_USER}\n'
    (plane.folder / "tokens").write_text(tokens)
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
