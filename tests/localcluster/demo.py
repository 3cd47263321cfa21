"""The demo: applies docs/examples/demo.yaml, tells what the operator decided, and saves the picture that
the engine draws.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from localcluster.kindcluster import Cluster
from localcluster.portforward import forwarded
from localcluster.progress import say, step
from localcluster.settings import OPERATOR_NAMESPACE, REPOSITORY, cache_folder
from localcluster.shell import CommandError, LocalClusterError, run

MANIFEST = REPOSITORY / "docs" / "examples" / "demo.yaml"
PICTURE = REPOSITORY / "out" / "demo.png"
NAME = "demo"
PROMPT = "a large red circle in the centre on a white background"
SEED = 7
READY_SECONDS = 300
ANSWER_SECONDS = 300
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def run_demo(cluster: Cluster) -> Path:
    """Apply the manifest, wait until it is Ready, print plan and picture; returns the picture's path."""
    with step(f"kubectl apply -f {MANIFEST.relative_to(REPOSITORY)}"):
        cluster.kubectl("apply", "-f", MANIFEST)
    with step("waiting until the deployment is Ready"):
        await_ready(cluster, NAME)
    _print(cluster.kubectl("get", "dd", NAME))
    _print(explained(cluster, NAME))
    with step(f"asking for “{PROMPT}” through the Service"), forwarded(cluster, f"svc/{NAME}", 80) as url:
        picture = draw(url, {"model": NAME, "prompt": PROMPT, "size": "128x128", "seed": SEED})
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    return PICTURE


def await_ready(cluster: Cluster, name: str) -> None:
    """Wait until a DiffusionDeployment is Ready, saying each change of its reason.

    Raises LocalClusterError when it is Stalled (waiting on would not help) or not Ready in time.
    """
    end = time.monotonic() + READY_SECONDS
    said = ""
    while True:
        found = json.loads(cluster.kubectl("get", "dd", name, "-o", "json"))
        status: dict[str, Any] = found.get("status", {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        conditions = {entry["type"]: entry for entry in status.get("conditions", [])}
        ready, stalled = conditions.get("Ready", {}), conditions.get("Stalled", {})
        words = f"{ready.get('reason', 'no status yet')}: {ready.get('message', '')}"
        if words != said:
            say(f"  {words}")
            said = words
        if current and ready.get("status") == "True":
            return
        if current and stalled.get("status") == "True":
            raise LocalClusterError(f"{name} is stalled: {stalled.get('reason')}: {stalled.get('message')}")
        if time.monotonic() > end:
            late = f"{name} was not Ready within {READY_SECONDS} s; last words: {words}"
            raise LocalClusterError(f"{late}\n{_hints(cluster)}")
        time.sleep(1)


def _hints(cluster: Cluster) -> str:
    try:
        pods = cluster.kubectl("get", "pods", "-A", "-o", "wide")
        log = cluster.kubectl("logs", "-n", OPERATOR_NAMESPACE, "deployment/diffusion-operator", "--tail=10")
    except CommandError as failed:
        return str(failed)
    return f"{pods}\n{log}"


def plugin_environment() -> Path:
    """Where the demo keeps a small Python environment with the kubectl plugin, without torch."""
    return cache_folder() / "kubectl-diffusion"


def explained(cluster: Cluster, name: str) -> str:
    """What `kubectl diffusion explain` says: the product's own words."""
    environment = {
        "UV_PROJECT_ENVIRONMENT": str(plugin_environment()),
        "KUBECTL": str(cluster.kubectl_program),
        "KUBECONFIG": str(cluster.folder.kubeconfig),
    }
    uv = Path(sys.executable).with_name("uv")
    command: list[str | Path] = [uv, "run", "--quiet", "--frozen", "--no-dev"]
    command += ["--package", "diffusion-operator", "kubectl-diffusion", "explain", name]
    return run(command, env=environment, cwd=REPOSITORY)


def draw(url: str, request: dict[str, Any]) -> bytes:
    """POST to ``/v1/images/generations`` and return the PNG; an answer that is no picture is an error with
    its words.
    """
    body = json.dumps({**request, "n": 1, "response_format": "b64_json"}).encode()
    call = urllib.request.Request(
        f"{url}/v1/images/generations", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(call, timeout=ANSWER_SECONDS) as answer:
            picture = base64.b64decode(json.loads(answer.read())["data"][0]["b64_json"])
    except urllib.error.HTTPError as refused:
        raise LocalClusterError(
            f"the engine answered {refused.code}: {refused.read().decode()[:500]}"
        ) from refused
    except (urllib.error.URLError, KeyError, ValueError, binascii.Error) as broken:
        raise LocalClusterError(f"the engine gave no picture: {broken}") from broken
    if not picture.startswith(PNG_SIGNATURE):
        raise LocalClusterError("the engine's answer holds no PNG")
    return picture


def _print(text: str) -> None:
    say("\n" + "\n".join(f"    {line}" for line in text.rstrip().splitlines()) + "\n")
