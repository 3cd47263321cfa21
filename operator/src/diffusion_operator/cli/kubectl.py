"""Reads the cluster through the user's own kubectl.

A plugin is started by kubectl, so kubectl is there, and with it the user's contexts, credentials and
log-in helpers. Nothing here writes, and nothing here interprets an object.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.gpu_node import GPU_NODE_PLURAL
from diffusion_operator.api.names import API_GROUP, FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MANAGED_BY, PLURAL
from diffusion_operator.cli.errors import ClusterUnreachable, NoSuchDeployment, NotAllowed

JsonObject = dict[str, Any]
Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]

OPERATOR_SELECTOR = "app.kubernetes.io/component=operator,app.kubernetes.io/part-of=diffusion-operator"
RESOURCE = f"{PLURAL}.{API_GROUP}"
GPU_NODE_RESOURCE = f"{GPU_NODE_PLURAL}.{API_GROUP}"
TIMEOUT_SECONDS = 60


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run kubectl and collect its text. Raises ClusterUnreachable when it is missing or does not end."""
    try:
        return subprocess.run(
            list(command), capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ClusterUnreachable(
            f"{command[0]} was not found on PATH; install kubectl or set KUBECTL to it."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterUnreachable(f"The cluster did not answer within {TIMEOUT_SECONDS} s.") from error


@dataclass(frozen=True)
class Kubectl:
    """One way to reach one cluster. `flags` are kubectl's own: context, kubeconfig, namespace."""

    context: str | None = None
    kubeconfig: str | None = None
    run: Runner = run_command

    def deployment(self, name: str, namespace: str | None) -> JsonObject:
        """One DiffusionDeployment. Raises NoSuchDeployment, ClusterUnreachable."""
        return self._get(RESOURCE, name, namespace=namespace)

    def namespace(self) -> str:
        """The namespace of the current context, `default` when it names none."""
        finished = self.run(self._command("config", "view", "--minify", "-o", "jsonpath={..namespace}"))
        return finished.stdout.strip() or "default" if finished.returncode == 0 else "default"

    def find_deployment(self, name: str, namespace: str) -> JsonObject | None:
        """One DiffusionDeployment, or None when it or its whole kind is not there yet."""
        try:
            return self.deployment(name, namespace)
        except NoSuchDeployment:
            return None

    def nodes(self) -> list[JsonObject]:
        """All nodes."""
        return self._items("nodes")

    def pods(self) -> list[JsonObject]:
        """All pods of all namespaces."""
        return self._items("pods", "--all-namespaces")

    def gpu_nodes(self) -> list[JsonObject]:
        """What node agents reported; empty when their kind is not installed."""
        try:
            return self._items(GPU_NODE_RESOURCE)
        except NoSuchDeployment:
            return []

    def managed_deployments(self) -> list[JsonObject]:
        """All Deployments that the operator manages, of all namespaces."""
        selector = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
        return self._items("deployments.apps", "--all-namespaces", "--selector", selector)

    def operators(self) -> list[JsonObject]:
        """Deployments of this chart, of all namespaces. Raises NotAllowed."""
        return self._items("deployments.apps", "--all-namespaces", "--selector", OPERATOR_SELECTOR)

    def quotas(self, namespace: str) -> list[JsonObject]:
        """ResourceQuotas of one namespace. Raises NotAllowed."""
        return self._items("resourcequotas", namespace=namespace)

    def claims(self, namespace: str) -> list[JsonObject]:
        """PersistentVolumeClaims of one namespace. Raises NotAllowed."""
        return self._items("persistentvolumeclaims", namespace=namespace)

    def volumes(self) -> list[JsonObject]:
        """All PersistentVolumes. Raises NotAllowed."""
        return self._items("persistentvolumes")

    def diffusion_deployments(self) -> list[JsonObject]:
        """All DiffusionDeployments of all namespaces; empty when their kind is not installed."""
        try:
            return self._items(RESOURCE, "--all-namespaces")
        except NoSuchDeployment:
            return []

    def replica_sets_of(self, name: str, namespace: str) -> list[JsonObject]:
        """The ReplicaSets of one DiffusionDeployment."""
        return self._children("replicasets.apps", name, namespace)

    def pods_of(self, name: str, namespace: str) -> list[JsonObject]:
        """The pods of one DiffusionDeployment."""
        return self._children("pods", name, namespace)

    def plan_config_maps(self, name: str, namespace: str) -> list[JsonObject]:
        """The plans of one DiffusionDeployment."""
        return self._children("configmaps", name, namespace)

    def _children(self, kind: str, name: str, namespace: str) -> list[JsonObject]:
        return self._items(kind, "--selector", f"{LABEL_DEPLOYMENT}={name}", namespace=namespace)

    def _items(self, *arguments: str, namespace: str | None = None) -> list[JsonObject]:
        items: list[JsonObject] = self._get(*arguments, namespace=namespace)["items"]
        return items

    def _get(self, *arguments: str, namespace: str | None = None) -> JsonObject:
        scope = ["--namespace", namespace] if namespace else []
        finished = self.run(self._command("get", *arguments, *scope, "-o", "json"))
        if finished.returncode != 0:
            raise _error(finished.stderr)
        found: JsonObject = json.loads(finished.stdout)
        return found

    def _command(self, *arguments: str) -> list[str]:
        flags: list[str] = []
        if self.context:
            flags += ["--context", self.context]
        if self.kubeconfig:
            flags += ["--kubeconfig", self.kubeconfig]
        return [os.environ.get("KUBECTL", "kubectl"), *flags, *arguments]


def _error(stderr: str) -> ClusterUnreachable | NoSuchDeployment:
    text = stderr.strip() or "kubectl gave no reason"
    if "doesn't have a resource type" in text:
        return NoSuchDeployment(f"The cluster does not know {RESOURCE}; install the operator's chart first.")
    if "(NotFound)" in text:
        return NoSuchDeployment(text.removeprefix("Error from server (NotFound): "))
    if "(Forbidden)" in text:
        return NotAllowed(text.removeprefix("Error from server (Forbidden): "))
    return ClusterUnreachable(f"kubectl could not read the cluster: {text}")
