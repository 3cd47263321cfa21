"""The real client over loopback HTTP: what it sends, what it retries and what it raises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from kubernetes.aio.client import Configuration

from diffusion_operator.kube.decoding import CHUNK
from diffusion_operator.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from diffusion_operator.kube.lease import LeaseLost
from diffusion_operator.kube.resources import CONFIG_MAPS, DIFFUSION_DEPLOYMENTS, PODS, SERVICES
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient
from diffusion_operator.reconcile.mirror import Mirror
from wire.fakeapi import FakeApi, fake_api

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "demo", "namespace": "team"},
    "spec": {"ports": [{"port": 80}]},
}


class Cluster:
    """The server, the client, the seconds it would have slept, and the calls it counted."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.slept: list[float] = []
        self.calls: list[tuple[str, str, int]] = []
        configuration = Configuration(host=api.url)
        configuration.api_key["BearerToken"] = "Bearer not-a-real-token"
        self.client = RestKubeClient(
            configuration,
            ClientSettings(request_timeout_s=5.0),
            observe_call=lambda verb, plural, code, _seconds: self.calls.append((verb, plural, code)),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with fake_api() as api:
        cluster = Cluster(api)
        yield cluster
        await cluster.client.close()


async def test_every_request_carries_our_user_agent_and_token(cluster: Cluster) -> None:
    cluster.api.put("/api/v1/pods", {"metadata": {"name": "a", "namespace": "team"}})
    await cluster.client.get(PODS, "a", "team")
    headers = cluster.api.seen[0].headers
    assert headers["User-Agent"] == "diffusion-operator"
    assert headers["Authorization"] == "Bearer not-a-real-token"
    assert cluster.calls == [("GET", "pods", 200)]


async def test_a_long_list_comes_in_chunks(cluster: Cluster) -> None:
    for number in range(2 * CHUNK + 3):
        cluster.api.put("/api/v1/pods", {"metadata": {"name": f"p{number:04}", "namespace": "team"}})
    pods = await cluster.client.list(PODS)
    assert len({pod["metadata"]["name"] for pod in pods}) == 2 * CHUNK + 3
    tokens = [request.query.get("continue") for request in cluster.api.seen]
    assert tokens == [None, f"list-0/{CHUNK}", f"list-0/{2 * CHUNK}"]
    assert {request.query["limit"] for request in cluster.api.seen} == {str(CHUNK)}


async def test_selectors_and_namespace_reach_the_server(cluster: Cluster) -> None:
    await cluster.client.list(PODS, "team", label_selector="a=b", field_selector="status.phase!=Failed")
    request = cluster.api.seen[0]
    assert request.path == "/api/v1/namespaces/team/pods"
    assert request.query["labelSelector"] == "a=b"
    assert request.query["fieldSelector"] == "status.phase!=Failed"


async def test_a_list_whose_token_expired_starts_again_from_the_beginning(cluster: Cluster) -> None:
    for number in range(CHUNK + 3):
        cluster.api.put("/api/v1/pods", {"metadata": {"name": f"p{number:04}", "namespace": "team"}})
    cluster.api.faults.append((410, {}))
    assert len(await cluster.client.list(PODS)) == CHUNK + 3
    assert [request.query.get("continue") for request in cluster.api.seen] == [None, None, f"list-0/{CHUNK}"]


async def test_a_list_that_is_gone_twice_is_an_error(cluster: Cluster) -> None:
    cluster.api.faults.extend([(410, {}), (410, {})])
    with pytest.raises(Gone):
        await cluster.client.list(PODS)


async def test_apply_is_a_forced_server_side_apply_under_our_name(cluster: Cluster) -> None:
    answer = await cluster.client.apply(SERVICE)
    request = cluster.api.seen[0]
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/team/services/demo")
    assert request.query == {"fieldManager": "diffusion-operator", "force": "true"}
    assert request.content_type == "application/apply-patch+yaml"
    assert request.body == SERVICE
    assert answer["metadata"]["uid"] == "uid-demo"


async def test_an_apply_may_leave_what_others_own(cluster: Cluster) -> None:
    await cluster.client.apply(SERVICE, force=False)
    assert cluster.api.seen[0].query["force"] == "false"


async def test_a_list_says_at_which_version_it_holds(cluster: Cluster) -> None:
    cluster.api.put("/api/v1/pods", {"metadata": {"name": "a", "namespace": "team"}})
    mirror = Mirror()
    version = await cluster.client.list_into(mirror.listing(PODS), PODS)
    assert version == str(cluster.api.version)
    assert [identity for identity, _ in mirror.entries(PODS)] == [("team", "a")]


async def test_without_the_lease_no_write_leaves_and_no_retry_does_either() -> None:
    async with fake_api() as api:
        held = [True]

        def check() -> None:
            if not held[0]:
                raise LeaseLost("gone")

        async def lose_it(_seconds: float) -> None:
            held[0] = False  # while the client waits to try again

        configuration = Configuration(host=api.url)
        client = RestKubeClient(configuration, ClientSettings(), check_write=check, sleep=lose_it)
        api.faults.append((429, {"Retry-After": "1"}))
        with pytest.raises(LeaseLost):
            await client.apply(SERVICE)
        assert [seen.method for seen in api.seen] == ["PATCH"]
        for write in (client.apply(SERVICE), client.delete(SERVICES, "demo", "team", uid="u")):
            with pytest.raises(LeaseLost):
                await write
        await client.list(PODS)
        assert [seen.method for seen in api.seen] == ["PATCH", "GET"]
        await client.close()


async def test_status_goes_to_the_subresource(cluster: Cluster) -> None:
    await cluster.client.apply_status(
        {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": "demo", "namespace": "team", "uid": "u1"},
            "status": {"replicas": 1},
        }
    )
    request = cluster.api.seen[0]
    assert request.path.endswith("/namespaces/team/diffusiondeployments/demo/status")
    assert request.query == {"fieldManager": "diffusion-operator", "force": "true"}


async def test_a_foreign_kind_is_never_written(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="never writes v1 Secret"):
        await cluster.client.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}}
        )
    assert cluster.api.seen == []


async def test_delete_names_the_uid_and_takes_gone_for_done(cluster: Cluster) -> None:
    await cluster.client.delete(CONFIG_MAPS, "plan", "team", uid="u1")
    request = cluster.api.seen[0]
    assert request.method == "DELETE"
    assert request.body["preconditions"] == {"uid": "u1"}
    assert request.body["propagationPolicy"] == "Background"


async def test_an_event_that_exists_is_already_exists_and_becomes_a_series(cluster: Cluster) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "demo.1", "namespace": "team"},
    }
    await cluster.client.create_event(event)
    with pytest.raises(AlreadyExists):
        await cluster.client.create_event(event)
    await cluster.client.repeat_event("team", "demo.1", {"count": 2})
    assert cluster.api.seen[-1].content_type == "application/merge-patch+json"
    assert cluster.api.seen[-1].path == "/apis/events.k8s.io/v1/namespaces/team/events/demo.1"


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, Forbidden), (404, NotFound), (409, Conflict), (422, Invalid), (400, Invalid), (500, ServerError)],
)
async def test_an_answer_becomes_a_typed_error_without_retry(
    cluster: Cluster, status: int, error: type[Exception]
) -> None:
    cluster.api.faults.append((status, {}))
    with pytest.raises(error, match=f"GET /api/v1/namespaces/team/pods/a: {status}: fault asked for"):
        await cluster.client.get(PODS, "a", "team")
    assert len(cluster.api.seen) == 1
    assert cluster.slept == []


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(cluster: Cluster, status: int) -> None:
    cluster.api.faults.extend([(status, {"Retry-After": "3"}), (status, {"Retry-After": "7"})])
    await cluster.client.apply(SERVICE)
    assert cluster.slept == [3.0, 7.0]
    assert len(cluster.api.seen) == 3


async def test_a_long_retry_after_goes_to_the_queue_instead(cluster: Cluster) -> None:
    cluster.api.faults.append((429, {"Retry-After": "120"}))
    with pytest.raises(TooManyRequests) as caught:
        await cluster.client.get(SERVICES, "demo", "team")
    assert caught.value.retry_after_s == 120.0
    assert cluster.slept == []


async def test_a_server_that_never_recovers_ends_the_retries(cluster: Cluster) -> None:
    cluster.api.faults.extend([(429, {"Retry-After": "1"})] * 9)
    with pytest.raises(TooManyRequests):
        await cluster.client.get(SERVICES, "demo", "team")
    assert len(cluster.api.seen) == 4


async def test_a_reset_connection_is_tried_again_and_the_write_lands_once(cluster: Cluster) -> None:
    cluster.api.faults.append("reset")
    await cluster.client.apply(SERVICE)
    assert list(cluster.api.objects) == ["/api/v1/namespaces/team/services/demo"]
    assert cluster.calls[0] == ("PATCH", "services", 0)


async def test_a_dead_server_is_unreachable(cluster: Cluster) -> None:
    cluster.api.faults.extend(["reset"] * 9)
    with pytest.raises(Unreachable, match="no answer"):
        await cluster.client.get(DIFFUSION_DEPLOYMENTS, "demo", "team")


async def test_the_permission_question_names_verb_and_subresource(cluster: Cluster) -> None:
    assert await cluster.client.allowed("patch", DIFFUSION_DEPLOYMENTS, subresource="status")
    attributes = cluster.api.seen[0].body["spec"]["resourceAttributes"]
    assert attributes == {
        "verb": "patch",
        "group": "diffusion-operator.io",
        "resource": "diffusiondeployments",
        "subresource": "status",
    }
