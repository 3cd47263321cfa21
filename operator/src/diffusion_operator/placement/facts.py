"""Which facts a deployment is planned with, what its source asks for, and where its weights lie in the pod.

Pure. Facts of sources other than `builtIn` come from a Job of the cluster; here they are only given a place.
"""

from __future__ import annotations

import hashlib
import json
import re

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.placement.decision import Refusal
from diffusion_runtime.models.catalog import facts_for, known_models
from diffusion_runtime.planning.documents import ModelRef
from diffusion_runtime.planning.errors import UnknownModel
from diffusion_runtime.planning.facts import ModelFacts

MODELS_FOLDER = "/models"
LONGEST_NAME = 253
FETCHED = ("huggingFace", "s3")
"""Sources whose weights are brought into a volume; the others are one."""


def is_fetched(spec: DiffusionDeploymentSpec) -> bool:
    """Whether the weights have to be fetched before they can be read."""
    return spec.model.source.kind in FETCHED


def cache_claim(spec: DiffusionDeploymentSpec) -> str | None:
    """The claim that keeps fetched weights; None: each pod fetches for itself."""
    return spec.cache.pvc.claim_name if spec.cache and spec.cache.pvc and is_fetched(spec) else None


def model_claim(spec: DiffusionDeploymentSpec) -> str | None:
    """The claim that pods read the weights from, if they read them from one."""
    return spec.model.source.pvc.claim_name if spec.model.source.pvc else cache_claim(spec)


def compiled_claim(spec: DiffusionDeploymentSpec) -> str | None:
    """The claim that keeps compiled kernels; None: they end with the pod."""
    return spec.cache.compiled.claim_name if spec.cache and spec.cache.compiled else None


def pod_claims(spec: DiffusionDeploymentSpec) -> tuple[str, ...]:
    """Every claim that pods mount for the operator's own purposes, each once; what they mount bounds where
    they run.
    """
    return tuple(dict.fromkeys(name for name in (model_claim(spec), compiled_claim(spec)) if name))


def needs_inspection(spec: DiffusionDeploymentSpec) -> bool:
    """Whether a Job has to look at the model; a known one is shown suspended without running anything."""
    source = spec.model.source
    if source.hugging_face and spec.suspend:
        return source.hugging_face.repo not in known_models()
    return source.built_in is None


def facts_key(spec: DiffusionDeploymentSpec) -> str:
    """Names a source at the asked revision and variant: twelve hex digits. Credentials are no part of it."""
    source = spec.model.source.to_dict()
    for fields in source.values():
        fields.pop("secretRef", None)
    return _digest(source, spec.model.variant)


def job_key(spec: DiffusionDeploymentSpec, *more: str | None) -> str:
    """The same with the credentials and where the answer goes: another of these is another Job."""
    return _digest(spec.model.to_dict(), *more)


def model_path_argument(spec: DiffusionDeploymentSpec) -> str:
    """What follows --model-path when the engine looks at the source or fetches it."""
    source = spec.model.source
    if source.hugging_face:
        return source.hugging_face.repo
    if source.s3:
        return f"s3://{source.s3.bucket}/{source.s3.prefix}"
    return _mounted_folder(spec)


def asked_revision(spec: DiffusionDeploymentSpec) -> str | None:
    """Branch, tag or commit of a hub's repository; None for other sources."""
    source = spec.model.source.hugging_face
    return (source.revision or "main") if source else None


def mount_folder(spec: DiffusionDeploymentSpec) -> str:
    """Where the model's volume is mounted. A source that is a volume has a folder of its own."""
    source = spec.model.source
    if source.pvc:
        return f"{MODELS_FOLDER}/{source.pvc.claim_name}"
    if source.image:
        return f"{MODELS_FOLDER}/image-{facts_key(spec)}"
    return MODELS_FOLDER


def placed(spec: DiffusionDeploymentSpec, facts: ModelFacts) -> ModelFacts:
    """The facts with the model's name, and the folder that the engine finds it in."""
    model = ModelRef(
        name=_name(spec)[:LONGEST_NAME],
        family=facts.model.family,
        source="path",
        path=_fetched_folder(spec, facts.model.revision) if is_fetched(spec) else _mounted_folder(spec),
        revision=facts.model.revision,
    )
    return facts.model_copy(update={"model": model})


def built_in_facts(spec: DiffusionDeploymentSpec) -> ModelFacts | Refusal:
    """Facts that need no look at the model, or why there are none."""
    source = spec.model.source
    if source.built_in is None and source.hugging_face is None:
        message = f"the facts of model.source.{source.kind} are read in the cluster: apply it first."
        return Refusal("Inspecting", message, stalled=False, field=f"spec.model.source.{source.kind}")
    name = source.built_in.name if source.built_in else _name(spec)
    field = "builtIn.name" if source.built_in else "huggingFace.repo"
    try:
        return facts_for(name)
    except UnknownModel as error:
        return Refusal("UnknownModel", str(error), stalled=True, field=f"spec.model.source.{field}")


def files_bytes(facts: ModelFacts) -> int:
    """Bytes of the model's weight files; where the headers were not read, of the weights as planned."""
    return sum(
        c.bytes(c.default_dtype) if c.stored_bytes is None else c.stored_bytes for c in facts.components
    )


def _name(spec: DiffusionDeploymentSpec) -> str:
    source = spec.model.source
    if source.pvc:
        return "/".join(("pvc", source.pvc.claim_name, *([source.pvc.path] if source.pvc.path else [])))
    return source.image.reference if source.image else model_path_argument(spec)


def _mounted_folder(spec: DiffusionDeploymentSpec) -> str:
    pvc = spec.model.source.pvc
    return f"{mount_folder(spec)}/{pvc.path}" if pvc and pvc.path else mount_folder(spec)


def _fetched_folder(spec: DiffusionDeploymentSpec, commit: str | None) -> str:
    """One folder for each content, readable and unique: two deployments of one model share it."""
    words = re.sub(r"[^a-z0-9]+", "-", model_path_argument(spec).removeprefix("s3://").lower()).strip("-")
    return f"{MODELS_FOLDER}/{words[:40].rstrip('-')}-{_digest(facts_key(spec), commit)}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
