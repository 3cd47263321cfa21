"""spec.monitoring: a ServiceMonitor where the cluster knows such a thing, a warning where it does not."""

from __future__ import annotations

from typing import Any

from diffusion_operator.kube.errors import NotFound
from diffusion_operator.kube.resources import SERVICE_MONITORS, JsonObject, Resource
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.worlds import World, demo

ASKED = {"monitoring": {"serviceMonitor": True, "labels": {"release": "prometheus"}}}
KEY = ("servicemonitors", "team", "demo")


class WithoutPrometheus(FakeCluster):
    """The API server has no such resource."""

    async def get(self, resource: Resource, *given: Any, **named: Any) -> JsonObject:
        return await super().get(self._known(resource), *given, **named)

    async def list(self, resource: Resource, *given: Any, **named: Any) -> list[JsonObject]:
        return await super().list(self._known(resource), *given, **named)

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        if manifest["kind"] == "ServiceMonitor":
            raise NotFound("PATCH /apis/monitoring.coreos.com/v1/…: 404: page not found", status=404)
        return await super().apply(manifest, force=force)

    def _known(self, resource: Resource) -> Resource:
        if resource == SERVICE_MONITORS:
            raise NotFound("GET /apis/monitoring.coreos.com/v1/…: 404: page not found", status=404)
        return resource


def on(cluster: FakeCluster) -> World:
    made = World(cluster)
    made.cluster.add_node("node", 8)
    return made


async def test_it_is_made_and_scrapes_the_management_port() -> None:
    made = on(FakeCluster())
    made.cluster.submit(demo(**ASKED))
    await made.settle()
    monitor = made.cluster.objects[KEY]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["ownerReferences"][0]["controller"] is True
    service = made.cluster.objects["services", "team", "demo"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"] == [{"targetPort": "management", "path": "/metrics"}]
    assert "warnings" not in made.status()["plan"] or "monitoring" not in str(
        made.status()["plan"]["warnings"]
    )


async def test_it_is_put_right_and_removed_again() -> None:
    made = on(FakeCluster())
    made.cluster.submit(demo(**ASKED))
    await made.settle()
    made.cluster.objects[KEY]["spec"]["endpoints"] = []
    made.restart_operator()
    await made.settle()
    assert made.cluster.objects[KEY]["spec"]["endpoints"]
    made.cluster.submit(demo())
    made.restart_operator()
    await made.settle()
    assert KEY not in made.cluster.objects


async def test_a_cluster_without_the_kind_is_a_warning_and_no_reason_not_to_serve() -> None:
    made = on(WithoutPrometheus())
    made.cluster.submit(demo(**ASKED))
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    warning = made.status()["plan"]["warnings"][0]
    assert warning.startswith("spec.monitoring.serviceMonitor: this cluster has no ServiceMonitor resource")
    made.cluster.submit(demo())
    await made.settle()
    assert "monitoring" not in str(made.status()["plan"])


async def test_a_foreign_one_of_that_name_stays() -> None:
    made = on(FakeCluster())
    foreign = {
        "metadata": {
            "name": "demo",
            "namespace": "team",
            "uid": "other",
            "labels": {},
            "resourceVersion": "1",
        },
        "spec": {},
    }
    made.cluster.objects[KEY] = foreign
    made.cluster.submit(demo(**ASKED))
    await made.settle()
    assert made.cluster.objects[KEY] == foreign
    assert "a ServiceMonitor named demo exists" in made.status()["plan"]["warnings"][0]


async def test_labels_alone_are_told_to_do_nothing() -> None:
    made = on(FakeCluster())
    made.cluster.submit(demo(monitoring={"labels": {"release": "prometheus"}}))
    await made.settle()
    assert "has no effect" in made.status()["plan"]["warnings"][0]
    assert KEY not in made.cluster.objects
