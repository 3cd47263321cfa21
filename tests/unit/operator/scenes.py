"""A small cluster for placement tests: raw objects in, decision out, and the decision applied again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.claims import pack
from diffusion_operator.inventory.gpu_nodes import parse_gpu_node
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import parse_deployment, parse_node, parse_pod
from diffusion_operator.inventory.quota import parse_quota
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.decision import CurrentGroup, Decision
from diffusion_operator.placement.groups import Terms
from diffusion_operator.placement.history import NO_HISTORY, Evidence, History
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.planning.facts import ModelFacts
from wrappers import DiffusionDeploymentBuilder, GpuNodeBuilder, NodeBuilder, PodBuilder

SETTINGS = RenderSettings(engine_image="engine:1")


@dataclass
class Scene:
    """Nodes, foreign pods and what earlier decisions have left behind."""

    nodes: Sequence[NodeBuilder]
    pods: list[PodBuilder] = field(default_factory=list)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    current: dict[str, tuple[CurrentGroup, ...]] = field(default_factory=dict)
    quotas: list[dict[str, Any]] = field(default_factory=list)
    terms: Terms = field(default_factory=Terms)
    history: History = NO_HISTORY
    engine: str = "engine:1"
    facts: ModelFacts | None = None
    reports: Sequence[GpuNodeBuilder] = ()

    def ledger(self) -> Ledger:
        return build_ledger(
            [parse_node(node.build()) for node in self.nodes],
            [parse_pod(pod.build()) for pod in self.pods],
            [parse_deployment(raw) for raw in self.deployments.values()],
            [parse_quota(raw) for raw in self.quotas],
            [parse_gpu_node(report.build()) for report in self.reports],
        )

    def decide(self, dd: DiffusionDeploymentBuilder, *evidence: Evidence) -> Decision:
        parsed = DiffusionDeployment.parse(dd.build())
        return decide(
            parsed,
            self.ledger(),
            engine_version=self.engine,
            current=self.current.get(parsed.key, ()),
            terms=self.terms,
            history=self.history,
            evidence=evidence,
            facts=self.facts,
        )

    def apply(self, dd: DiffusionDeploymentBuilder, decision: Decision) -> None:
        """What the API server holds after the children were written; no pod exists yet."""
        parsed = DiffusionDeployment.parse(dd.build())
        for manifest in render_children(parsed, decision, SETTINGS):
            if manifest["kind"] == "Deployment":
                self.deployments[f"{parsed.namespace}/{manifest['metadata']['name']}"] = manifest
        self.history = decision.history
        self.current[parsed.key] = tuple(
            CurrentGroup(
                group.name,
                group.plan,
                group.intent,
                group.replicas,
                group.rollout,
                engine_image=group.engine_image or self.engine,
            )
            for group in decision.groups
        )

    def start_pods(self, dd: DiffusionDeploymentBuilder, decision: Decision) -> None:
        """Bind one pod per decided replica where the scheduler could."""
        parsed = DiffusionDeployment.parse(dd.build())
        for group in decision.groups:
            gpus = group.plan.gpus_per_replica
            selection = parse_deployment(
                self.deployments[f"{parsed.namespace}/{parsed.name}-{group.name}"]
            ).selection
            views = self.ledger().free_nodes(parsed.key, group.resource_name, selection)
            places = pack({view.node.name: view.free for view in views}, gpus, group.replicas)
            for index, node in enumerate(places):
                pod = PodBuilder(f"{parsed.name}-{group.plan.hash}-{index}").gpus(gpus).on(node)
                self.pods.append(pod.owned_by(parsed.name, group.name, group.plan.hash))
