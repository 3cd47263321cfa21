"""Starts the node agent and stops it in order.

Exit codes: 0 stopped by signal, 1 the NVIDIA library is missing or the agent failed, 2 bad settings.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from kubernetes.aio.config import ConfigException

from diffusion_operator.kube.rest import RestKubeClient, load_configuration
from diffusion_operator.node_agent.agent import Agent
from diffusion_operator.node_agent.health import start_probes
from diffusion_operator.node_agent.nvml import Nvml, NvmlMissing
from diffusion_operator.node_agent.pod_resources import PodResources
from diffusion_operator.node_agent.settings import AgentSettings, read_settings

logger = logging.getLogger("diffusion_node_agent")
TERMINATION_MESSAGE = Path("/dev/termination-log")


def main() -> None:
    """Entry point of `diffusion-node-agent`."""
    settings = read_settings(sys.argv[1:])
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    try:
        asyncio.run(run(settings))
    except (NvmlMissing, ConfigException) as error:
        sentence = f"diffusion-node-agent cannot start: {error}"
        if TERMINATION_MESSAGE.exists():
            # `kubectl describe pod` shows it, so nobody has to look for a log.
            TERMINATION_MESSAGE.write_text(sentence, encoding="utf-8")
        sys.exit(sentence)


async def run(settings: AgentSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises NvmlMissing."""
    client = RestKubeClient(await load_configuration(settings.client), settings.client)
    nvml, kubelet = Nvml(), PodResources(settings.socket)
    agent = Agent(client, nvml, kubelet, settings.identity)
    runner = await start_probes(settings.http_port, agent.not_ready, agent.stuck)
    logger.info("node %s; probes on port %d", settings.identity.node, settings.http_port)
    looking = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, looking.cancel)
    try:
        await looking
    except asyncio.CancelledError:
        logger.info("stopping")
    finally:
        await runner.cleanup()
        await client.close()
        kubelet.close()
        nvml.close()


if __name__ == "__main__":
    main()
