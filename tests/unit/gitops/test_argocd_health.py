"""The shipped health script, run by the Lua that Argo CD embeds, over statuses of the operator itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localcluster.gotools import tool
from localcluster.settings import REPOSITORY
from unit.gitops.statuses import STATES

SCRIPT = REPOSITORY / "docs" / "gitops" / "argocd-health.lua"


def lua(value: Any) -> str:
    """A JSON value as a Lua expression."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua(key)}] = {lua(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(lua, value)) + "}"
    if value is None:
        return "nil"
    return json.dumps(value, ensure_ascii=False)


def health(obj: Any, folder: Path) -> tuple[str, str]:
    """Status and message, as Argo CD would show them."""
    driver = folder / "driver.lua"
    driver.write_text(
        f"obj = {lua(obj)}\nlocal found = assert(loadfile({lua(str(SCRIPT))}))()\n"
        'print(found.status)\nprint(found.message or "")\n'
    )
    ran = subprocess.run([tool("glua"), driver], capture_output=True, text=True, timeout=30, check=True)
    status, _, message = ran.stdout.partition("\n")
    return status, message.strip()


@pytest.mark.timeout(900)  # builds the interpreter when the cache has none
@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("ready", "Healthy", ""),
        ("starting", "Progressing", "0 of 1 replica"),
        ("waiting_for_gpus", "Progressing", "needs 4 GPUs of one node"),
        ("some_replicas_wait", "Healthy", "2 of 4 replicas wait"),
        ("stalled", "Degraded", "need 8 GPUs per replica"),
        ("went_back", "Degraded", "no pod became ready within 300 s"),
        ("on_a_fallback", "Healthy", "executes a fallback of its plan"),
        ("downgraded", "Healthy", "ran out of memory; its fallback"),
        ("fetching_the_model", "Progressing", "into claim cache"),
        ("waiting_for_nodes", "Progressing", "4 GPUs of pool spot"),
        ("waited_for_nodes_in_vain", "Degraded", "none came in 15 minutes"),
        ("no_replicas", "Suspended", "spec.replicas is 0"),
        ("suspended", "Suspended", "spec.suspend is true"),
        ("not_seen", "Progressing", "not seen this spec yet"),
        ("changed_and_not_yet_seen", "Progressing", "not seen this spec yet"),
        ("being_deleted", "Progressing", "Being deleted"),
    ],
)
async def test_each_state(state: str, status: str, words: str, tmp_path: Path) -> None:
    found, message = health(await STATES[state](), tmp_path)
    assert found == status
    assert words in message


def test_every_state_is_asked_for() -> None:
    (cases,) = [mark.args[1] for mark in test_each_state.pytestmark if mark.name == "parametrize"]
    assert {state for state, _, _ in cases} == set(STATES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("status", [None, {}, {"conditions": []}])
def test_without_conditions_it_is_progressing(status: Any, tmp_path: Path) -> None:
    assert health({"metadata": {"generation": 1}, "status": status}, tmp_path)[0] == "Progressing"


def test_the_page_shows_the_script() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "gitops.md").read_text()
    code = [line for line in SCRIPT.read_text().splitlines() if not line.startswith("--")]
    assert all(f"    {line}".rstrip() in page for line in code)
