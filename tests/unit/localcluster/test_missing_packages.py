"""What is not installed is told in one sentence with the command, and never installed unasked."""

from __future__ import annotations

import pytest

from localcluster import host
from localcluster.shell import LocalClusterError


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    ran: list[list[str]] = []
    monkeypatch.setattr(host, "find_program", lambda name: None)
    monkeypatch.setattr(host, "run", lambda command, **_: ran.append(list(command)))
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.delenv("CI", raising=False)
    return ran


@pytest.mark.parametrize(("user", "prefix"), [(0, "`apt-get"), (1000, "`sudo apt-get")])
def test_sentence_names_packages_and_command(
    user: int, prefix: str, monkeypatch: pytest.MonkeyPatch, nothing_installed: list[list[str]]
) -> None:
    monkeypatch.setattr(host.os, "geteuid", lambda: user)
    with pytest.raises(LocalClusterError) as refused:
        host.require_packages(("podman", "debootstrap"), "running a cluster")
    assert "podman debootstrap" in str(refused.value)
    assert f"{prefix} install -y --no-install-recommends podman debootstrap" in str(refused.value)
    assert nothing_installed == []


@pytest.mark.parametrize("variable", [("YES", "1"), ("CI", "true")])
def test_root_that_asked_for_it_gets_them(
    variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch, nothing_installed: list[list[str]]
) -> None:
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    monkeypatch.setenv(*variable)
    host.require_packages(("podman",), "running a cluster")
    assert [command[:2] for command in nothing_installed] == [["apt-get", "update"], ["apt-get", "install"]]
    assert nothing_installed[1][-1] == "podman"
