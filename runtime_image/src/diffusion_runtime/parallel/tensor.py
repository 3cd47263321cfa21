"""Tensor parallelism: each rank holds a slice of the matrices and computes with a part of the heads.

The slicing is the model's own plan in diffusers. Each rank cuts its slices from the weights it has read,
without communication; diffusers' own entry refuses a CPU and would send the weights from rank 0. Weights
outside of the plan stay whole on every rank.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks.tensor_parallel import (
    TPShardSpec,
    _hooks_only_styles,
    _local_shard,
    _resolve_tp_plan,
    resolve_tp_shard_specs,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import parallelize_module

from diffusion_runtime.storage import Fill, empty_like_on, put


def apply_tensor_parallel(transformer: Any, mesh: DeviceMesh, device: torch.device, fill: Fill) -> None:
    """Slice a transformer (parameters on the meta device) over a one-dimensional mesh, onto `device`.

    Its weights are read whole on the host first, so each rank needs that much host memory while it loads.

    ValueError for a model without a plan, or with a matrix that the ranks do not divide.
    """
    plan = transformer._tp_plan
    if plan is None:
        raise ValueError(f"{type(transformer).__name__} has no tensor-parallel plan in diffusers")
    host = {name: empty_like_on(p, torch.device("cpu")) for name, p in transformer.named_parameters()}
    fill([(name, tensor, 0) for name, tensor in host.items()])
    put(transformer, host)
    for name, spec in resolve_tp_shard_specs(transformer, plan, mesh.size()).items():
        path, _, parameter = name.rpartition(".")
        module = transformer.get_submodule(path)
        setattr(module, parameter, _sliced(getattr(module, parameter), spec, mesh, device))
    for block, styles in _resolve_tp_plan(transformer, plan):
        parallelize_module(block, mesh, _hooks_only_styles(styles))
    for tensor in (*transformer.parameters(), *transformer.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device)


def _sliced(
    whole: torch.nn.Parameter, spec: TPShardSpec, mesh: DeviceMesh, device: torch.device
) -> torch.nn.Parameter:
    local, placement = whole.data, _placement(spec)
    if spec.dim is not None:
        local = _local_shard(whole.data, spec.dim, spec.block_sizes, mesh)
    sliced = DTensor.from_local(local.to(device), mesh, [placement], run_check=False)
    return torch.nn.Parameter(sliced, requires_grad=False)


def _placement(spec: TPShardSpec) -> Placement:
    return Replicate() if spec.dim is None else Shard(spec.dim)
