"""`diffusion-runtime serve --plan plan.json`: follow a plan and serve pictures.

No defaults that a plan should decide.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path

ALL_INTERFACES = "0.0.0.0"  # noqa: S104  # a pod is reached on its own address
DRAIN_VARIABLE = "DIFFUSION_DRAIN_S"
QUEUE_VARIABLE = "DIFFUSION_QUEUE_S"
EXIT_BAD_INPUT = 2
HELP = "follow a plan file and serve POST /v1/images/generations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `serve`. Times are seconds."""
    parser.add_argument(
        "--plan", type=Path, required=True, metavar="FILE", help="the plan to follow, as JSON"
    )
    parser.add_argument("--host", default=ALL_INTERFACES, help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="API port; 0 takes a free one")
    parser.add_argument(
        "--management-port", type=int, default=9000, help="probes, metrics, report; 0 as above"
    )
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"), metavar="PATH")
    parser.add_argument("--queue-capacity", type=int, default=16, help="accepted requests that may wait")
    parser.add_argument(
        "--queue-seconds",
        metavar="SECONDS",
        default=os.environ.get(QUEUE_VARIABLE),
        help="predicted seconds of accepted requests; what would be more is refused with 429, unless nothing "
        f"is before it (default: {QUEUE_VARIABLE}, else only requests are counted)",
    )
    parser.add_argument(
        "--heartbeat-seconds", type=float, default=20.0, help="a silent or stopped rank is hung after this"
    )
    parser.add_argument(
        "--collective-seconds", type=float, default=300.0, help="ranks wait this long for each other"
    )
    parser.add_argument(
        "--progress-seconds", type=float, default=1800.0, help="a step or phase may take this long"
    )
    parser.add_argument(
        "--start-seconds", type=float, default=300.0, help="a loading rank makes progress within this"
    )
    parser.add_argument(
        "--drain-grace-seconds", type=float, default=5.0, help="still accepting after SIGTERM"
    )
    parser.add_argument(
        "--drain-seconds",
        metavar="SECONDS",
        default=os.environ.get(DRAIN_VARIABLE),
        help="from SIGTERM to the end, as the pod's terminationGracePeriodSeconds gives it; requests that "
        f"are not drawn by then get a retryable error (default: {DRAIN_VARIABLE}, else no end)",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 drained, 1 the engine failed, 2 refused before anything was loaded."""
    import logging

    # PID 1 of a container never gets a SIGTERM it has no handler for; imports and checks take seconds.
    signal.signal(signal.SIGTERM, _end_before_the_start)

    from diffusion_runtime.server.limits import Limits
    from diffusion_runtime.server.serve import ServeOptions, run_server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        drain_s = _seconds(args.drain_seconds, "--drain-seconds", DRAIN_VARIABLE)
        queue_s = _seconds(args.queue_seconds, "--queue-seconds", QUEUE_VARIABLE)
    except ValueError as error:
        sys.stderr.write(f"diffusion-runtime serve: {error}\n")
        return EXIT_BAD_INPUT
    limits = Limits(
        queue_capacity=args.queue_capacity,
        queue_s=queue_s,
        heartbeat_s=args.heartbeat_seconds,
        collective_s=args.collective_seconds,
        progress_s=args.progress_seconds,
        start_s=args.start_seconds,
        drain_grace_s=args.drain_grace_seconds,
        drain_s=drain_s,
    )
    return run_server(
        ServeOptions(args.plan, args.host, args.port, args.management_port, args.termination_log, limits)
    )


def _seconds(given: str | None, flag: str, variable: str) -> float | None:
    """Seconds; None where nothing is given. ValueError names what is wrong."""
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{flag} (or {variable}) {given!r} is no number of seconds above 0.")
    return seconds


def _end_before_the_start(_: int, __: object) -> None:
    """SIGTERM until the event loop has its own handler: nothing was accepted, so nothing is left to do."""
    sys.exit(0)
