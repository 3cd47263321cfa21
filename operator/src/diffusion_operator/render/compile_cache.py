"""The volume with compiled kernels: where it is mounted, and the folder in it that one engine image uses.

Only for plans that compile. Without a claim nothing is rendered: the engine then compiles into its temporary
folder, an emptyDir that lives as long as the pod. GPU product and torch version are folders of the engine's.
"""

from __future__ import annotations

import hashlib
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.placement.facts import compiled_claim
from diffusion_operator.render.settings import RenderSettings

VOLUME = "compiled"
MOUNT = "/opt/diffusion/compiled"
VARIABLE = "DIFFUSION_COMPILE_CACHE"  # read by diffusion_runtime.loading.compile_cache


def compile_volumes(dd: DiffusionDeployment, group: GroupDecision) -> list[dict[str, Any]]:
    """The claim, where the plan compiles and the spec names one."""
    claim = _claim(dd, group)
    return [{"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}] if claim else []


def compile_mounts(dd: DiffusionDeployment, group: GroupDecision) -> list[dict[str, Any]]:
    """Where the engine sees it."""
    return [{"name": VOLUME, "mountPath": MOUNT}] if _claim(dd, group) else []


def compile_env(
    dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings
) -> list[dict[str, Any]]:
    """The folder of the engine image: another image never reads what this one compiled."""
    if not _claim(dd, group):
        return []
    image = group.engine_image or settings.engine_image
    return [{"name": VARIABLE, "value": f"{MOUNT}/{image_key(image)}"}]


def image_key(image: str) -> str:
    """Of a reference with a digest, its digest; else of the whole reference. Twelve hex digits."""
    _, _, digest = image.partition("@sha256:")
    return digest[:12] if digest else hashlib.sha256(image.encode()).hexdigest()[:12]


def _claim(dd: DiffusionDeployment, group: GroupDecision) -> str | None:
    return compiled_claim(dd.spec) if group.plan.compile.enabled else None
