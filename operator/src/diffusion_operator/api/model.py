"""spec.model: which weights a deployment serves and where they come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from diffusion_operator.api.base import LIST_BY_NAME, ApiModel, DnsLabel, DnsName, rules

SOURCES = ("builtIn", "huggingFace", "pvc", "s3", "image")
_ONE_SOURCE = f"[{', '.join(f'has(self.{name})' for name in SOURCES)}].filter(x, x).size() == 1"

# Relative path without '..' segments; the folder must not be left through the name.
_SEGMENT = "[A-Za-z0-9_][-A-Za-z0-9_.]*"
RelativePath = Annotated[str, Field(min_length=1, max_length=512, pattern=rf"^{_SEGMENT}(/{_SEGMENT})*$")]


class BuiltInSource(ApiModel):
    """A model that ships inside the engine image; nothing is fetched."""

    name: DnsLabel = Field(description="Name of the model inside the engine image, for example `demo`.")


class HuggingFaceSource(ApiModel):
    """A repository of the Hugging Face Hub."""

    repo: str = Field(
        min_length=3,
        max_length=200,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*/[A-Za-z0-9][-A-Za-z0-9_.]*$",
        description="Repository as `owner/name`, for example `Qwen/Qwen-Image`.",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9_./]*$",
        description="Commit hash, tag or branch. A commit hash is the only one that cannot change "
        "underneath you. Absent: the head of the default branch at the time of the first "
        "download.",
    )


class PvcSource(ApiModel):
    """A folder on a PersistentVolumeClaim of the same namespace."""

    claim_name: DnsName = Field(description="PersistentVolumeClaim in the namespace of this object.")
    path: RelativePath | None = Field(
        None,
        description="Folder of the model inside the volume, relative, without `..`. Absent: the root of "
        "the volume.",
    )


class S3Source(ApiModel):
    """A prefix in an S3-compatible bucket."""

    bucket: str = Field(
        min_length=3,
        max_length=63,
        pattern=r"^[a-z0-9][-.a-z0-9]*[a-z0-9]$",
        description=("Name of the bucket."),
    )
    prefix: RelativePath = Field(
        description="Folder of the model inside the bucket, without a leading slash."
    )
    endpoint: str | None = Field(
        None,
        max_length=253,
        pattern=r"^https?://[A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]{1,5})?$",
        description="Address of the object store, for example `https://minio.storage.svc:9000`. Absent: AWS.",
    )
    region: str | None = Field(
        None,
        max_length=63,
        pattern=r"^[a-z0-9-]+$",
        description="Region of the bucket. Absent: the store's default.",
    )
    secret_ref: SecretRef | None = Field(
        None,
        description="Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Absent: none.",
    )


class ImageSource(ApiModel):
    """An OCI image (or artifact) that contains the model folder, mounted read-only."""

    reference: str = Field(
        min_length=1,
        max_length=512,
        pattern=r"^[a-z0-9][-A-Za-z0-9_.:/@]*$",
        description="Image reference. Pin it by digest (`name@sha256:…`) if it must never change.",
    )
    pull_policy: Literal["ifNotPresent", "always", "never"] | None = Field(
        None, description="When the node pulls the image. Absent: `ifNotPresent`."
    )


class SecretRef(ApiModel):
    """A Secret of the same namespace."""

    name: DnsName = Field(description="Name of a Secret in the namespace of this object.")


class ModelSource(ApiModel):
    """Where the weights come from. Set exactly one field."""

    model_config = ConfigDict(
        json_schema_extra=rules((_ONE_SOURCE, f"set exactly one of {', '.join(SOURCES)}"))
    )

    built_in: BuiltInSource | None = Field(
        None,
        description="A model that ships inside the engine image. `demo` is a tiny one for trying things out.",
    )
    hugging_face: HuggingFaceSource | None = Field(
        None,
        description="A repository of the Hugging Face Hub, in diffusers' layout with safetensors weights.",
    )
    pvc: PvcSource | None = Field(
        None, description="A model folder on a PersistentVolumeClaim of this namespace."
    )
    s3: S3Source | None = Field(None, description="A model folder in an S3-compatible bucket.")
    image: ImageSource | None = Field(
        None, description="A model folder inside an OCI image, mounted as a volume."
    )

    @property
    def kind(self) -> str:
        """Wire name of the one source that is set."""
        return next(iter(self.to_dict()))


class Lora(ApiModel):
    """A low-rank adapter that is loaded beside the model."""

    name: DnsLabel = Field(description="Name under which a request selects the adapter.")
    source: ModelSource = Field(
        description="Where the adapter's safetensors file comes from. Set exactly one field."
    )
    scale: float | None = Field(
        None, ge=0.0, le=4.0, description="Strength of the adapter, 0.0 (no effect) to 4.0. Absent: 1.0."
    )


class ModelSpec(ApiModel):
    """Which weights are served."""

    source: ModelSource = Field(
        description="Where the weights come from. Set exactly one of the fields below."
    )
    secret_ref: SecretRef | None = Field(
        None, description="Secret with the key `token`, used to download from a source that asks who you are."
    )
    variant: str | None = Field(
        None,
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9_]*$",
        description="Variant of the weight files, for example `fp16`. Absent: the files without a variant.",
    )
    loras: tuple[Lora, ...] | None = Field(
        None,
        max_length=8,
        description="Low-rank adapters to load beside the model, at most 8.",
        json_schema_extra=LIST_BY_NAME,
    )


S3Source.model_rebuild()
