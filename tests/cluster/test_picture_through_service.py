"""apply → Ready → a picture by the openai client through the Service, and errors that the client
understands.
"""

from __future__ import annotations

import base64

import openai
import pytest

from cluster.conftest import SERVED
from cluster.room import Room, gpus_of

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIZE_OFFSET_BYTES = 16  # width and height follow the header chunk's length and name


def test_openai_client_draws_through_the_service(served: Room) -> None:
    with served.client(SERVED) as client:
        answer = client.images.generate(model="demo", prompt="a red circle", size="128x128")
    assert answer.data is not None
    picture = base64.b64decode(answer.data[0].b64_json or "")
    assert picture.startswith(PNG_SIGNATURE)
    width, height = picture[SIZE_OFFSET_BYTES:][:4], picture[SIZE_OFFSET_BYTES + 4 :][:4]
    assert (int.from_bytes(width), int.from_bytes(height)) == (128, 128)


def test_pods_ask_for_the_gpus_of_the_plan(served: Room) -> None:
    plan = served.get(SERVED)["status"]["plan"]
    (pod,) = served.pods(SERVED)
    assert gpus_of(pod) == plan["gpusPerReplica"]
    assert pod["metadata"]["annotations"]["diffusion-operator.io/plan-hash"] == plan["hash"]
    assert plan["device"] == "cpu"
    assert any("CPU" in warning for warning in plan["warnings"])


@pytest.mark.parametrize(
    ("request_fields", "named"),
    [
        ({"size": "127x128"}, "127"),
        ({"model": "other"}, "other"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_bad_requests_are_named(served: Room, request_fields: dict[str, object], named: str) -> None:
    fields = {"model": "demo", "prompt": "a red circle", "size": "128x128", **request_fields}
    with served.client(SERVED) as client, pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(**fields)  # type: ignore[call-overload]
    assert refused.value.status_code in (400, 404)
    assert named in str(refused.value)


def test_prompt_that_is_no_string_is_named(served: Room) -> None:
    with served.client(SERVED) as client, pytest.raises(openai.BadRequestError, match="prompt"):
        client.images.generate(model="demo", prompt=["a", "b"])  # type: ignore[call-overload]
