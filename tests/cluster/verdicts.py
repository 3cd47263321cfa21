"""Sends bad DiffusionDeployments to a real API server and judges what becomes of each.

Strictly, as kubectl sends: refused with the field's path in the message, or admitted and given conditions
with reasons in time. Several are under way at once; each is deleted as soon as its verdict is known.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from builders.bad_resources import BadResource
from builders.structural import MAP_KEY, sites, spec_schema
from diffusion_operator.kube.listening import _tls
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject
from diffusion_operator.kube.rest import ClientSettings, load_configuration

LONGEST_S = 5.0
AT_ONCE = 4
GIVE_UP_S = 20.0
REFUSALS = (400, 403, 422)
# A word that is a path: not `specific`, not `some-spec`.
_PATH = re.compile(r"(?<![\w/-])(?:spec|metadata)(?:[.\[][^\s:\",]*)?(?![\w/-])")


@dataclass(frozen=True)
class Verdict:
    """What became of one resource. `fault` is empty when it is as it should be."""

    number: int
    kind: str
    refused: bool
    said: str
    """The refusal, or the reason of Ready."""
    seconds: float = 0.0
    fault: str = ""


@dataclass
class Live:
    """DiffusionDeployments of one namespace, as a watch shows them, over one connection pool.

    Conditions that come later than `longest_s` after an object was created are a fault.
    """

    session: aiohttp.ClientSession
    url: str
    longest_s: float
    seen: dict[str, JsonObject] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def judge(self, bad: BadResource) -> Verdict:
        """Create it, look, delete it."""
        body, strictly = io.BytesIO(json.dumps(bad.manifest()).encode()), {"fieldValidation": "Strict"}
        async with self.session.post(self.url, params=strictly, data=body) as answer:
            status, text = answer.status, await answer.text()
        if status != 201:
            said = json.loads(text).get("message", text) if text.startswith("{") else text
            return Verdict(bad.number, bad.kind, True, said, fault=refusal_fault(bad, status, said))
        start = time.monotonic()
        uid = json.loads(text)["metadata"]["uid"]
        try:
            dd = await self._decided(bad.name, uid)
        finally:
            async with self.session.delete(f"{self.url}/{bad.name}") as answer:
                await answer.read()
        return judged(bad, dd, time.monotonic() - start, self.longest_s)

    async def judge_all(self, resources: Sequence[BadResource]) -> list[Verdict]:
        """All of them, a few at once, in the order of their numbers."""
        verdicts: list[Verdict] = []
        waiting = iter(resources)

        async def one_after_the_other() -> None:
            for bad in waiting:
                verdicts.append(await self.judge(bad))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one_after_the_other())
        return sorted(verdicts, key=lambda verdict: verdict.number)

    async def _decided(self, name: str, uid: str) -> JsonObject | None:
        def decided() -> bool:
            dd = self.seen.get(name, {})
            return bool(dd and dd["metadata"]["uid"] == uid and dd.get("status", {}).get("conditions"))

        try:
            async with asyncio.timeout(GIVE_UP_S), self.changed:
                await self.changed.wait_for(decided)
        except TimeoutError:
            return None
        return self.seen[name]


def refusal_fault(bad: BadResource, status: int, said: str) -> str:
    """Empty when the refusal names the spoilt place, or the object around it whose rule it breaks.

    Where several places are spoilt, any place inside the spec will do.
    """
    if status not in REFUSALS:
        return f"answered {status}: {said[:300]}"
    named = {path.rstrip(".)") for path in _PATH.findall(said)}
    if not named - {"spec", "metadata"} and bad.field != "spec":
        return f"no field is named: {said[:300]}"
    if bad.field and not any(_names(path, bad.field, said) for path in named):
        return f"{bad.field} is not named: {said[:300]}"
    return ""


def _names(path: str, field_: str, said: str) -> bool:
    """Whether a path of the message is the field, in it, its direct parent, or of a rule around it."""
    if _within(path, field_) or path == parent_of(field_):
        return True
    return _within(field_, path) and any(words in said for words in _rules().get(_first(path), ()))


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def parent_of(field_: str) -> str:
    """The object, list or map that holds the field."""
    if field_.endswith(f".{MAP_KEY}"):
        return field_.removesuffix(f".{MAP_KEY}")
    return re.sub(r"(\.[^.\[\]]*|\[\d+\])$", "", field_)


def _first(path: str) -> str:
    """The same place in the first entry of each list, as `sites` spells it."""
    return re.sub(r"\[\d+\]", "[0]", path)


@cache
def _rules() -> Mapping[str, tuple[str, ...]]:
    """The messages of the schema's CEL rules, by the object that they are rules of."""
    rules = {site.path: site.schema.get("x-kubernetes-validations", ()) for site in sites(spec_schema())}
    return {path: tuple(rule["message"] for rule in found) for path, found in rules.items() if found}


def judged(bad: BadResource, dd: JsonObject | None, seconds: float, longest_s: float) -> Verdict:
    """Of a resource that was admitted."""
    if dd is None:
        return Verdict(bad.number, bad.kind, False, "", seconds, "no condition")
    conditions: list[dict[str, Any]] = dd["status"]["conditions"]
    ready = next((c for c in conditions if c["type"] == "Ready"), {})
    said = f"{ready.get('reason')}: {ready.get('message')}"
    fault = ""
    if seconds > longest_s:
        fault = f"conditions came after {seconds:.1f} s"
    elif dd["status"].get("observedGeneration") != dd["metadata"]["generation"]:
        fault = "the status is not of this generation"
    elif nameless := [c["type"] for c in conditions if not c.get("reason") or not c.get("message")]:
        fault = f"no reason or message in {', '.join(nameless)}"
    return Verdict(bad.number, bad.kind, False, said, seconds, fault)


@asynccontextmanager
async def live(kubeconfig: Path, namespace: str, *, longest_s: float = LONGEST_S) -> AsyncIterator[Live]:
    """A watch on the namespace and a session to write with."""
    configuration = await load_configuration(ClientSettings(kubeconfig=str(kubeconfig)))
    token = await configuration.get_api_key_with_prefix("BearerToken")
    headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
    connector = aiohttp.TCPConnector(ssl=_tls(configuration))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        made = Live(session, f"{configuration.host}{DIFFUSION_DEPLOYMENTS.path(namespace)}", longest_s)
        watching = asyncio.create_task(_follow(made))
        try:
            yield made
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _follow(made: Live) -> None:
    """One event a line; an object may be longer than any buffer's line."""
    async with made.session.get(made.url, params={"watch": "true"}) as answer:
        answer.raise_for_status()
        rest = b""
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                event = json.loads(line)
                made.seen[event["object"]["metadata"]["name"]] = event["object"]
            if lines:
                async with made.changed:
                    made.changed.notify_all()
