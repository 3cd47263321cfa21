"""`kubectl diffusion plan -f FILE`: what the operator would do, by the operator's own functions.

It decides nothing itself: manifest and snapshot go into `placement.decide`, and the answer is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.api.names import GROUP_VERSION, KIND, LABEL_DEPLOYMENT
from diffusion_operator.cli.answers import json_text
from diffusion_operator.cli.errors import BAD_INPUT, NOTHING_FITS, OK, BadInput
from diffusion_operator.cli.installation import Installation, installation
from diffusion_operator.cli.kubectl import JsonObject, Kubectl
from diffusion_operator.cli.snapshot import Snapshot, from_cluster, from_file, read_documents, read_text
from diffusion_operator.cli.style import Style
from diffusion_operator.cli.view import Placement, Verdict, View, plan_view
from diffusion_operator.cli.words import words
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.decision import Decision
from diffusion_operator.placement.facts import placed, pod_claims
from diffusion_operator.reconcile.children import Children
from diffusion_operator.reconcile.current import current_groups
from diffusion_operator.reconcile.models import no_such_claim, stored_facts
from diffusion_operator.reconcile.plan_status import plan_status

# Refusals that no other cluster would lift; every other one means that nothing fits here.
BAD_INPUT_REASONS = frozenset({"InvalidSpec", "NotSupportedYet", "UnknownModel", "LayoutUnsupported"})


def plan(
    kubectl: Kubectl, filename: str, nodes_file: Path | None, namespace: str | None, output: str, style: Style
) -> tuple[str, int]:
    """The text to print and the exit code. Raises BadInput, ClusterUnreachable."""
    manifest = read_manifest(filename)
    live = nodes_file is None
    where = manifest["metadata"].get("namespace") or namespace or (kubectl.namespace() if live else "default")
    try:
        dd = DiffusionDeployment.parse(manifest | {"metadata": manifest["metadata"] | {"namespace": where}})
        if nodes_file is not None:
            snapshot = from_file(nodes_file)
        else:
            dd = _with_live_replicas(dd, manifest, kubectl.find_deployment(dd.name, where))
            snapshot = from_cluster(kubectl, dd.name, where)
        installed = installation(snapshot.operators)
        decision = _decision(dd, snapshot, installed)
    except InvalidSpec as error:
        raise BadInput(f"{filename}: {error}") from error
    notes = [*snapshot.unread, *([installed.note] if installed.note and live else [])]
    view = view_of_decision(dd, decision, tuple(notes))
    return _as_json(decision) if output == "json" else words(view, style), exit_code(decision)


def _decision(dd: DiffusionDeployment, snapshot: Snapshot, installed: Installation) -> Decision:
    """As the operator would decide, with what it would find."""
    mounts = []
    for claim in pod_claims(dd.spec):
        mount = snapshot.mount(dd.namespace, claim)
        if mount is None:
            return Decision(refusal=no_such_claim(dd.namespace, claim).refusal)
        mounts.append(mount)
    children = _children(dd, snapshot)
    facts = stored_facts(dd, children) if dd.spec.model.source.built_in is None else None
    return decide(
        dd,
        snapshot.ledger(),
        engine_version=installed.engine_image,
        current=current_groups(dd.name, children),
        terms=installed.terms,
        facts=placed(dd.spec, facts) if facts else None,
        mounts=tuple(mounts),
    )


def read_manifest(filename: str) -> JsonObject:
    """The one DiffusionDeployment of a file, `-` for standard input. Raises BadInput."""
    text = sys.stdin.read() if filename == "-" else read_text(Path(filename))
    documents = read_documents(text, filename)
    found = [d for d in documents if isinstance(d, Mapping) and d.get("kind") == KIND]
    if len(found) != 1:
        raise BadInput(f"{filename} holds {len(found)} objects of kind {KIND}; one is planned at a time.")
    manifest = dict(found[0])
    if manifest.get("apiVersion") != GROUP_VERSION:
        raise BadInput(
            f"{filename}: apiVersion is {manifest.get('apiVersion')!r}; this version knows {GROUP_VERSION}."
        )
    if not isinstance(manifest.get("metadata"), dict):
        raise BadInput(f"{filename}: metadata is missing; it needs at least a name.")
    return manifest


def exit_code(decision: Decision) -> int:
    """0 when something would run, 2 when the manifest is wrong anywhere, 3 when nothing fits here."""
    if decision.groups or decision.refusal is None:
        return OK
    return BAD_INPUT if decision.refusal.reason in BAD_INPUT_REASONS else NOTHING_FITS


def view_of_decision(dd: DiffusionDeployment, decision: Decision, notes: tuple[str, ...] = ()) -> View:
    """The view of an object that the operator has not been asked about yet."""
    groups = decision.groups
    return View(
        name=dd.name,
        namespace=dd.namespace,
        verdict=_verdict(dd, decision),
        message=decision.refusal.message if decision.refusal else "",
        generation=dd.generation,
        observed_generation=None,
        wanted=dd.spec.replicas,
        ready=0,
        url="",
        plan=plan_view(plan_status(groups[0], notes)) if groups else None,
        placements=tuple(Placement(g.name, g.plan.gpus_per_replica, g.replicas, g.plan.hash) for g in groups),
    )


def _verdict(dd: DiffusionDeployment, decision: Decision) -> Verdict:
    if decision.refusal is not None:
        return "refused" if decision.refusal.stalled else "waiting"
    return "suspended" if dd.spec.suspend else "planned"


def _with_live_replicas(
    dd: DiffusionDeployment, manifest: JsonObject, live: JsonObject | None
) -> DiffusionDeployment:
    """A manifest without `replicas` leaves the live number as it is, so it is planned with that one."""
    if live is None or "replicas" in manifest["spec"]:
        return dd
    spec = dd.spec.model_copy(update={"replicas": live["spec"]["replicas"]})
    return dd.model_copy(update={"spec": spec})


def _children(dd: DiffusionDeployment, snapshot: Snapshot) -> Children:
    """The children that exist already, so that a plan that serves and still fits is kept."""
    kinds = (("Deployment", snapshot.deployments), ("ConfigMap", snapshot.config_maps))
    own = {
        (kind, raw["metadata"]["name"]): raw
        for kind, found in kinds
        for raw in found
        if raw["metadata"].get("namespace") == dd.namespace
        and (raw["metadata"].get("labels") or {}).get(LABEL_DEPLOYMENT) == dd.name
    }
    return Children(dd.uid, own, ())


def _as_json(decision: Decision) -> str:
    groups: list[dict[str, Any]] = [
        {
            "name": group.name,
            "product": group.product,
            "replicas": group.replicas,
            "rollout": group.rollout.kind,
            "plan": group.plan.to_dict(),
        }
        for group in decision.groups
    ]
    refusal = asdict(decision.refusal) if decision.refusal else None
    return json_text({"groups": groups, "refusal": refusal})
