"""From a plan to an engine that has not started yet: every check that needs no torch, then the pieces put
together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_runtime.loading.compile_cache import compile_environment
from diffusion_runtime.loading.executable import check_executable
from diffusion_runtime.loading.fitting import choose_start
from diffusion_runtime.loading.folder import ModelFolder, check_plan_is_for, locate, open_folder
from diffusion_runtime.loading.gpus import DriverGpu, check_devices, check_product
from diffusion_runtime.loading.host_memory import available_bytes
from diffusion_runtime.parallel.environment import cpu_threads, rank_environment
from diffusion_runtime.planning.documents import Execution, Plan

from .engine import Engine
from .image_request import PictureRules, rules_of
from .limits import Limits
from .metrics import EngineMetrics
from .rank_group import RankCommand, RankGroup
from .video_request import VideoRules, video_rules_of

# -P: a rank must not import what lies in the folder that the user happens to be in.
RANK_ARGUMENTS = (sys.executable, "-P", "-m", "diffusion_runtime.generation.rank")


@dataclass(frozen=True)
class PreparedEngine:
    """An engine and the rules of what it draws; `videos` where that is clips."""

    engine: Engine
    rules: PictureRules
    videos: VideoRules | None
    folder: ModelFolder


def prepare(plan: Plan, limits: Limits, rank_arguments: Sequence[str] = RANK_ARGUMENTS) -> PreparedEngine:
    """Check plan, folder and devices, then build the engine; call inside the event loop.

    Raises EngineRefusal.
    """
    folder, gpus = check_plan(plan)
    start = choose_start(plan, gpus, available_bytes())
    product = gpus[0].name if gpus else plan.device
    for execution in start.executions:
        compile_environment(execution, product)  # a missing compiler is said before anything is loaded

    def start_group(execution: Execution) -> RankGroup:
        environment = rank_environment(cpu_threads(execution.layout.ranks), execution.device)
        environment |= compile_environment(execution, product)
        command = RankCommand(rank_arguments, environment)
        return RankGroup(command, execution, folder.path, limits, time.monotonic, plan.shapes, plan.guidance)

    driver = gpus[0].driver_version if gpus else None
    engine = Engine(plan, start_group, limits, EngineMetrics(), time.monotonic, start, driver)
    rules = rules_of(plan, folder.pixel_multiple, folder.family)
    return PreparedEngine(engine, rules, video_rules_of(plan, folder), folder)


def check_plan(plan: Plan) -> tuple[ModelFolder, list[DriverGpu]]:
    """Everything that can be refused before a rank starts, cheapest first. Raises EngineRefusal."""
    check_executable(plan)
    gpus = check_devices(plan)
    check_product(plan, gpus)
    folder = open_folder(locate(plan.model).resolve())
    check_plan_is_for(folder, plan.model.family, plan)
    return folder, gpus
