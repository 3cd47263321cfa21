"""One real engine as its users meet it: the `openai` client, probes, metrics, report, then a drain."""

from __future__ import annotations

import base64
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest

from diffusion_runtime.planning.documents import EngineReport, ModelRef
from engine.memory_of import engine_bytes
from engine.plans import cpu_execution, plan_for
from engine.real_server import RealServer, decode, pixels, serving

PLAN = plan_for(cpu_execution(), model=ModelRef(name="demo", family="qwen-image", source="builtIn"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving(PLAN, tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.api}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_openai_client_gets_pictures(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="demo",
        prompt="a green square",
        n=2,
        size="64x64",
        response_format="b64_json",
        user="somebody",
        extra_body={"seed": 5, "negative_prompt": "blur", "num_inference_steps": 3, "true_cfg_scale": 3.5},
    )
    assert answer.data is not None
    pictures = [decode(base64.b64decode(item.b64_json or "")) for item in answer.data]
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 2
    assert not np.array_equal(pictures[0], pictures[1])
    assert answer.size == "64x64"


def test_same_seed_same_picture_and_another_seed_another(server: RealServer) -> None:
    first, again, other = (pixels(server.post(prompt="a", seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("name", "magic"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_output_formats(server: RealServer, name: str, magic: bytes) -> None:
    answer = server.post(prompt="a", output_format=name)
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]).startswith(magic)


def test_openai_client_understands_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.images.generate(prompt="a", response_format="url")
    assert wrong.value.param == "response_format"
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a", model="dall-e-3")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "diffusion-operator"


def test_report_is_the_contract_document(server: RealServer) -> None:
    server.post(prompt="a")
    report = EngineReport.model_validate(server.report())
    assert report.plan_hash == report.executing_hash == PLAN.hash
    assert (report.state, report.device, report.ranks) == ("ready", "cpu", 1)
    assert set(report.phases) == {"load", "text", "denoise", "decode"}
    assert report.seconds_per_request is not None
    assert report.seconds_per_request > 0
    assert {"torch", "diffusers", "diffusion-runtime"} <= set(report.versions)
    assert [rank.rank for rank in report.rank_measurements] == [0]
    assert report.rank_measurements[0].phases == report.phases
    assert report.planned is not None
    assert report.planned.peak_per_gpu_bytes == PLAN.memory.peak_per_gpu_bytes
    assert set(report.planned.phases) == {"load", "text", "denoise", "decode"}
    assert set(report.load_stages) == {"import", "build", "read", "place", "warm"}
    assert report.loaded_bytes > 1e6


def test_probes_and_metrics(server: RealServer) -> None:
    for probe in ("livez", "readyz", "startupz"):
        assert httpx.get(f"{server.management}/{probe}").status_code == 200
    text = httpx.get(f"{server.management}/metrics").text
    assert f'plan_hash="{PLAN.hash}"' in text
    assert 'diffusion_engine_stage_seconds_count{stage="denoise"}' in text
    assert 'diffusion_engine_requests_total{outcome="refused"}' in text


def test_management_is_not_on_the_public_port(server: RealServer) -> None:
    for path in ("/metrics", "/v1/report", "/livez"):
        assert httpx.get(f"{server.api}{path}").status_code == 404


def test_twenty_requests_in_a_row_leave_memory_flat(server: RealServer) -> None:
    """The long one, of 200 requests, is the suite `soak`."""
    requests = [{"prompt": f"a {'very ' * (number % 3)}red circle"} for number in range(20)]
    for fields in requests[:6]:
        assert server.post(**fields).status_code == 200
    settled = engine_bytes(server)
    for fields in requests:
        assert server.post(**fields).status_code == 200
    growth = {name: held - settled[name] for name, held in engine_bytes(server).items()}
    assert max(growth.values()) <= 16 * 2**20, growth


def test_sigterm_finishes_what_was_accepted_and_nothing_more(server: RealServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.post, prompt="a", num_inference_steps=150)
        server.until(server.running)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: not server.ready())
        assert server.running(), "the accepted request must still be drawn, else this test proves nothing"
        late = server.post(prompt="b")
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "engine_draining"
        assert late.headers["retry-after"] == "1"
        assert pixels(accepted.result()).shape == (64, 64, 3)
    assert server.process.wait(60) == 0
    assert not server.termination_log.exists()
