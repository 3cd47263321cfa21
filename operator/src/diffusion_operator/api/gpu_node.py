"""The GPUNode object: what the node agent saw on one node. Nobody asks anything of it, so it has no spec.

It has no status subresource either: its only writer creates and updates it with one request. The operator
reads it leniently in `inventory.gpu_nodes`; these models are what the agent writes and the schema enforces.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from diffusion_operator.api.base import ApiModel
from diffusion_operator.api.crd import definition
from diffusion_operator.api.names import API_GROUP, API_VERSION
from diffusion_operator.api.schema import Schema, structural_schema
from diffusion_operator.api.status import Bytes, Count, Short

GPU_NODE_KIND = "GPUNode"
GPU_NODE_PLURAL = "gpunodes"
DESCRIPTION = (
    "What the node agent saw on the GPUs of one node: memory in use beside the pods, who holds which GPU, "
    "how GPUs are linked. Named after its node and written by the agent there alone."
)
MAX_GPUS = 64
# name, type, JSON path
COLUMNS = (
    ("GPUS", "integer", ".status.gpuCount"),
    ("FREE", "integer", ".status.freeGPUs"),
    ("FOREIGN", "string", ".status.foreign"),
    ("AGE", "date", ".metadata.creationTimestamp"),
)
Name = Annotated[str, Field(max_length=253)]


class PodReference(ApiModel):
    """A pod of the node."""

    namespace: Name = Field(description="Namespace of the pod.")
    name: Name = Field(description="Name of the pod.")


class Reporter(PodReference):
    """The agent pod that wrote the report."""

    uid: Short = Field(description="Uid of the pod. The report counts only while exactly this pod is Ready.")


class HostMemoryReport(ApiModel):
    """Memory of the node itself."""

    total_bytes: Bytes = Field(description="Bytes that the node has.")
    free_bytes: Bytes = Field(description="Bytes that can be had without swapping (MemAvailable).")


class PcieReport(ApiModel):
    """The link to the host."""

    generation: int | None = Field(
        None, ge=1, le=32, description="Highest generation that GPU and slot share; an idle GPU steps down."
    )
    width: int | None = Field(None, ge=1, le=64, description="Lanes in use.")
    max_width: int | None = Field(None, ge=1, le=64, description="Lanes that the GPU could use.")


class GPUReport(ApiModel):
    """One GPU. Memory is absent when `problem` says why."""

    index: int = Field(ge=0, le=1023, description="Number in the driver's order.")
    uuid: Short | None = Field(None, description="Id of the GPU, `GPU-…`.")
    product: Short | None = Field(None, description="Product as the driver names it.")
    total_bytes: Bytes | None = Field(None, description="Bytes of memory.")
    reserved_bytes: Bytes | None = Field(None, description="Bytes that the driver keeps for itself.")
    used_bytes: Bytes | None = Field(None, description="Bytes in use, the driver's own not counted.")
    foreign_bytes: Bytes | None = Field(
        None,
        description="Bytes in use that no pod accounts for. While a pod holds the GPU: as last seen without "
        "one, and never more than is in use.",
    )
    held_by: tuple[PodReference, ...] | None = Field(
        None,
        max_length=64,
        description="Pods that the kubelet gave the GPU to; more than one if it is shared.",
    )
    mig: bool | None = Field(
        None, description="Whether the GPU is cut into slices; their memory is not read."
    )
    pcie: PcieReport | None = Field(None, description="The link to the host.")
    nvlink_peers: tuple[Annotated[int, Field(ge=0, le=1023)], ...] | None = Field(
        None, max_length=MAX_GPUS, description="Indices of GPUs reached over NVLink, directly or by a switch."
    )
    problem: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Why the GPU could not be read, in the driver's words."
    )


class GPUNodeStatus(ApiModel):
    """One report. Written when foreign memory, holders, GPUs or free host memory changed enough."""

    observed_time: str = Field(description="When it was seen.", json_schema_extra={"format": "date-time"})
    reporter: Reporter = Field(description="The agent pod that wrote the report.")
    driver_version: Short = Field(description="Version of the NVIDIA driver.")
    gpu_count: Count = Field(description="GPUs that the driver shows.")
    free_gpus: Count = Field(alias="freeGPUs", description="Readable GPUs that no pod holds.")
    foreign: Short = Field(description="Sum of the foreign bytes, for people.")
    host_memory: HostMemoryReport | None = Field(None, description="Memory of the node itself.")
    gpus: tuple[GPUReport, ...] = Field(max_length=MAX_GPUS, description="One entry for each GPU.")


def gpu_node_crd() -> dict[str, Any]:
    """The whole CRD as a plain dict."""
    version = {
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} for name, kind, path in COLUMNS
        ],
        "schema": {"openAPIV3Schema": _schema()},
    }
    return definition(GPU_NODE_KIND, GPU_NODE_PLURAL, "Cluster", version)


def _schema() -> Schema:
    status = structural_schema(GPUNodeStatus)
    status["description"] = "The last report. Written by the node agent alone."
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["status"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always `{API_GROUP}/{API_VERSION}`."},
            "kind": {"type": "string", "description": f"Always `{GPU_NODE_KIND}`."},
            "metadata": {"type": "object"},
            "status": status,
        },
    }
