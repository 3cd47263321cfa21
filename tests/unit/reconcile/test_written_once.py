"""An API server that rewrites what it is given must not be written to for ever."""

from __future__ import annotations

from diffusion_operator.kube.resources import SERVICES, JsonObject
from diffusion_operator.reconcile.status_writer import StatusWriter
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.worlds import World, demo


class Rewriting(FakeCluster):
    """Prunes a status field and rounds a Service port, as admission and schemas may."""

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        await super().apply(manifest, force=force)
        live = self.objects[self._key_of(manifest)]
        if manifest["kind"] == SERVICES.kind:
            live["spec"]["ports"][0]["targetPort"] = 8000
        return live

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        answer = await super().apply_status(manifest)
        live = self.objects[self._key_of(manifest)]
        live["status"].pop("selector", None)
        return answer | {"status": live["status"]}

    def _key_of(self, manifest: JsonObject) -> tuple[str, str, str]:
        plural = {
            "DiffusionDeployment": "diffusiondeployments",
            "PodDisruptionBudget": "poddisruptionbudgets",
        }
        kind = manifest["kind"]
        return (
            plural.get(kind, f"{kind.lower()}s"),
            manifest["metadata"]["namespace"],
            manifest["metadata"]["name"],
        )


async def test_a_rewritten_child_and_a_pruned_status_are_written_once_per_process() -> None:
    made = World(Rewriting())
    made.cluster.add_node("node-1", 1)
    made.cluster.submit(demo())
    await made.settle()
    written = len(made.cluster.writes)
    await made.reconcile()
    assert made.writes_since(written) == []


async def test_a_further_edit_of_a_rewritten_child_is_still_put_right() -> None:
    made = World(Rewriting())
    made.cluster.add_node("node-1", 1)
    made.cluster.submit(demo())
    await made.settle()
    made.cluster.get_now(SERVICES, "demo")["spec"]["selector"] = {"app": "by-hand"}
    written = len(made.cluster.writes)
    await made.reconcile()
    assert made.writes_since(written) == [("apply", "Service", "demo")]


async def test_the_status_of_a_deleted_object_is_let_go() -> None:
    cluster = FakeCluster()
    dd = {"metadata": {"name": "gone", "namespace": "team", "uid": "u1"}}
    assert await StatusWriter(cluster).write(dd, {"replicas": 1}) is False
    assert cluster.writes == []
