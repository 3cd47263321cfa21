"""With logFormat json every line is one object, and inside a reconcile it names the object it is about."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from diffusion_operator.logs import JsonFormatter
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.reconcile.log_context import note_object, reconciling
from diffusion_operator.settings import read_settings


def line(message: str, *, exception: Exception | None = None) -> dict[str, str]:
    info = None if exception is None else (type(exception), exception, None)
    record = logging.LogRecord("diffusion_operator.x", logging.WARNING, __file__, 1, message, (), info)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


def test_a_line_outside_of_a_reconcile() -> None:
    found = line('quotes " and\nnew lines')
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": "diffusion_operator.x",
        "message": 'quotes " and\nnew lines',
    }


async def test_each_reconcile_has_its_own_keys() -> None:
    async def one(name: str) -> dict[str, str]:
        with reconciling(DeploymentKey("team", name)):
            note_object({"metadata": {"uid": f"uid-{name}", "resourceVersion": "7"}})
            await asyncio.sleep(0)
            return line("working")

    first, second = await asyncio.gather(one("a"), one("b"))
    assert (first["namespace"], first["name"], first["uid"]) == ("team", "a", "uid-a")
    assert (second["name"], second["resourceVersion"]) == ("b", "7")
    assert first["reconcileID"] != second["reconcileID"]
    assert "name" not in line("after")


def test_an_exception_stays_in_its_line() -> None:
    assert "ZeroDivisionError: ours" in line("bug", exception=ZeroDivisionError("ours"))["exception"]


def test_the_format_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        read_settings([], {"DIFFUSION_ENGINE_IMAGE": "e", "DIFFUSION_LOG_FORMAT": "json"}).log_format
        == "json"
    )
    with pytest.raises(SystemExit):
        read_settings(["--log-format", "xml"], {"DIFFUSION_ENGINE_IMAGE": "e"})
    assert "--log-format is 'xml'; use one of text, json" in capsys.readouterr().err
