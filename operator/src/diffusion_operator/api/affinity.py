"""spec.pod.affinity.

the part of Kubernetes' Affinity that a pod of ours may use, with Kubernetes' own spelling.

Fields that would name other namespaces are left out on purpose.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diffusion_operator.api.base import ApiModel, LabelKey, LabelValue

NodeOperator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
LabelOperator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
Weight = Annotated[int, Field(ge=1, le=100)]
TopologyKey = Annotated[str, Field(min_length=1, max_length=317)]


class NodeExpression(ApiModel):
    """One requirement on a node label."""

    key: LabelKey = Field(description="Node label that is looked at.")
    operator: NodeOperator = Field(description="How the label is compared, as Kubernetes spells it.")
    values: tuple[LabelValue, ...] | None = Field(
        None, max_length=16, description="Values to compare with; one number for Gt and Lt, none for Exists."
    )


class NodeTerm(ApiModel):
    """Requirements that must all hold."""

    match_expressions: tuple[NodeExpression, ...] = Field(
        min_length=1, max_length=16, description="Requirements on node labels; all of them must hold."
    )


class RequiredNodes(ApiModel):
    """Alternatives, one of which must hold."""

    node_selector_terms: tuple[NodeTerm, ...] = Field(
        min_length=1, max_length=8, description="Alternatives; a node must meet one of them."
    )


class PreferredNodes(ApiModel):
    """A preference for some nodes."""

    weight: Weight = Field(description="Weight of this preference, 1 to 100.")
    preference: NodeTerm = Field(description="Requirements that a preferred node meets.")


class NodeAffinity(ApiModel):
    """Requirements on, and preferences for, nodes."""

    required_during_scheduling_ignored_during_execution: RequiredNodes | None = Field(
        None, description="What a node must meet; the planner counts only such nodes."
    )
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNodes, ...] | None = Field(
        None, max_length=8, description="What the scheduler prefers among the nodes that are possible."
    )


class LabelExpression(ApiModel):
    """One requirement on a pod label."""

    key: LabelKey = Field(description="Pod label that is looked at.")
    operator: LabelOperator = Field(description="How the label is compared, as Kubernetes spells it.")
    values: tuple[LabelValue, ...] | None = Field(
        None, max_length=16, description="Values to compare with; none for Exists and DoesNotExist."
    )


class LabelSelector(ApiModel):
    """Selects pods of the same namespace by their labels."""

    match_labels: dict[LabelKey, LabelValue] | None = Field(
        None, max_length=16, description="Labels that a pod must have."
    )
    match_expressions: tuple[LabelExpression, ...] | None = Field(
        None, max_length=16, description="Further requirements; all of them must hold."
    )


class PodTerm(ApiModel):
    """Pods of the same namespace, and the topology in which they count as near."""

    label_selector: LabelSelector = Field(description="Which pods of the same namespace are meant.")
    topology_key: TopologyKey = Field(
        description="Node label whose equal values mean near, for example `kubernetes.io/hostname`."
    )


class PreferredPods(ApiModel):
    """A preference for nearness to, or distance from, pods."""

    weight: Weight = Field(description="Weight of this preference, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The pods in question, and what near means.")


class PodAffinity(ApiModel):
    """Nearness to other pods; required terms cannot be planned for yet."""

    required_during_scheduling_ignored_during_execution: tuple[PodTerm, ...] | None = Field(
        None, max_length=8, description="Pods that must be near (or far)."
    )
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredPods, ...] | None = Field(
        None, max_length=8, description="Pods that should be near (or far)."
    )


class Affinity(ApiModel):
    """Scheduling rules as in a pod spec."""

    node_affinity: NodeAffinity | None = Field(
        None, description="Requirements on, and preferences for, nodes."
    )
    pod_affinity: PodAffinity | None = Field(None, description="Pods that engine pods should be near to.")
    pod_anti_affinity: PodAffinity | None = Field(
        None, description="Pods that engine pods should keep away from."
    )
