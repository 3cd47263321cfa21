"""Two real ranks with CFG parallel, from plan file to picture; then one is killed, then one freezes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_runtime.cli import main
from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw
from diffusion_runtime.planning.documents import Shape
from engine.plans import DEMO, cpu_execution, plan_for
from engine.real_server import RealServer, pixels, serving

PROMPT = "a red circle on a blue background"
FIELDS: dict[str, Any] = {"prompt": PROMPT, "seed": 11, "size": "64x96", "num_inference_steps": 6}
SHAPES = (Shape(width=64, height=96, steps=6),)
PLAN = plan_for(cpu_execution(cfg=2, mode="component"), shapes=SHAPES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving(PLAN, tmp_path_factory.mktemp("two"), "--heartbeat-seconds", "10") as running:
        yield running


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> dict[int, np.ndarray[Any, Any]]:
    """The same request by one rank: guided through `generate`, unguided by the pipeline in this process."""
    file = tmp_path_factory.mktemp("one") / "guided.png"
    flags = ["--device", "cpu", "--prompt", PROMPT, "--seed", "11", "--width", "64", "--height", "96"]
    flags += ["--num-inference-steps", "6", "--guidance-scale", "4", "--output", str(file)]
    assert main(["generate", "--model-path", str(DEMO), *flags]) == 0
    torch.set_num_threads(1)
    request = PictureRequest(prompt=PROMPT, width=64, height=96, steps=6, guidance_scale=1, seed=11)
    plain = draw(build(str(DEMO), cpu_execution(), 0, torch.device("cpu")), request, lambda phase, step: None)
    assert plain.pixels is not None
    return {4: np.asarray(Image.open(file)).astype(int), 1: plain.pixels[0].numpy().astype(int)}


def test_two_ranks_draw_what_one_rank_draws(
    server: RealServer, one_rank: dict[int, np.ndarray[Any, Any]]
) -> None:
    two = pixels(server.post(**FIELDS))
    assert two.shape == (96, 64, 3)
    assert np.ptp(two) > 20, "a flat picture would prove nothing"
    assert np.abs(two - one_rank[4]).max() <= 2


def test_without_guidance_one_branch_is_drawn(
    server: RealServer, one_rank: dict[int, np.ndarray[Any, Any]]
) -> None:
    plain = pixels(server.post(**FIELDS, true_cfg_scale=1))
    assert np.abs(plain - one_rank[1]).max() <= 2
    assert np.abs(plain - one_rank[4]).max() > 2, "guidance must matter, else this proves nothing"


def test_too_long_prompt_is_named_and_costs_no_group(server: RealServer) -> None:
    answer = server.post(prompt="red " * 2000)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "prompt")
    assert "at most 1024" in error["message"]
    assert server.report()["rankGroupRestarts"] == 0


def test_ranks_listen_on_loopback_only(server: RealServer) -> None:
    inodes = {inode for pid in server.rank_ids() for inode in socket_inodes(pid)}
    listening = [address for address, inode in listening_sockets() if inode in inodes]
    assert listening, "gloo must listen somewhere, else this test sees nothing"
    assert set(listening) == {"0100007F"}  # 127.0.0.1, little-endian


def socket_inodes(pid: int) -> set[str]:
    links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def listening_sockets() -> list[tuple[str, str]]:
    """Local address in hex and inode of every listening TCP socket of this machine."""
    rows = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                rows.append((columns[1].split(":")[0], columns[9]))
    return rows


def test_parent_never_maps_torch(server: RealServer) -> None:
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    assert all("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in server.rank_ids())


def test_killed_rank_costs_one_request_and_no_container(server: RealServer) -> None:
    before = pixels(server.post(**FIELDS))
    killed = server.rank_ids()
    error = lose_a_request(server, signal.SIGKILL)
    assert "RankDied" in error["message"]
    again = server.post(**FIELDS)
    assert np.array_equal(pixels(again), before)
    assert server.report()["rankGroupRestarts"] == 1
    assert server.ready()
    assert not set(server.rank_ids()) & set(killed), "the whole group must be new"


def test_frozen_rank_is_found_by_its_silence(server: RealServer) -> None:
    error = lose_a_request(server, signal.SIGSTOP)
    assert "RankHung" in error["message"]
    assert not server.ready()
    server.until(lambda: server.report()["rankGroupRestarts"] == 2)


def lose_a_request(server: RealServer, number: signal.Signals) -> dict[str, Any]:
    """Send a signal to rank 1 in the middle of a long request; returns the error that the client gets."""
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(server.post, prompt="a", num_inference_steps=1000)
        server.until(server.running)
        os.kill(server.rank_ids()[1], number)
        answer = lost.result()
    error: dict[str, Any] = answer.json()["error"]
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert (error["type"], error["code"]) == ("server_error", "rank_group_restarted")
    return error
