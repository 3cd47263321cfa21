"""Reaches a Service of the cluster from this machine, the way a user does: ``kubectl port-forward``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from localcluster.kindcluster import Cluster
from localcluster.shell import LocalClusterError


@contextmanager
def forwarded(cluster: Cluster, target: str, port: int, namespace: str = "default") -> Iterator[str]:
    """Yield ``http://127.0.0.1:<free port>`` for a target such as ``svc/demo``; ends the forwarding
    afterwards.
    """
    command = [str(cluster.kubectl_program), "--kubeconfig", str(cluster.folder.kubeconfig), "-n", namespace]
    command += ["port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            match = re.search(r"127\.0\.0\.1:(\d+) ->", first)
            if match is None:
                raise LocalClusterError(f"kubectl port-forward {target} failed: {first.strip()}")
            yield f"http://127.0.0.1:{match.group(1)}"
        finally:
            process.terminate()
            if process.stdout:
                process.stdout.close()
