"""The images that kubeadm expects (API server, etcd, CoreDNS, kube-proxy, pause …), made of static Go
binaries.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from localcluster import gotools
from localcluster.cache import digest
from localcluster.host import require_packages
from localcluster.progress import step
from localcluster.provider import Provider
from localcluster.roots import PATH_SETTING, proxy_base_image
from localcluster.settings import COREDNS_VERSION, ETCD_VERSION, KUBERNETES_VERSION, cache_folder
from localcluster.shell import LocalClusterError, run, succeeds

COMPONENTS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
    "coredns",
    "pause",
)
LABEL = "diffusion-operator.localcluster.key"
# Part of every key: raise it when the making of an image below changes.
RECIPE_VERSION = "1"


def component_names() -> dict[str, str]:
    """Component -> image reference, as kubeadm itself prints them."""
    kubeadm = gotools.kubernetes() / "kubeadm"
    listed = run([kubeadm, "config", "images", "list", "--kubernetes-version", KUBERNETES_VERSION]).split()
    names = {
        component: next((image for image in listed if f"/{component}:" in image), "")
        for component in COMPONENTS
    }
    absent = [component for component, image in names.items() if not image]
    if absent:
        raise LocalClusterError(f"kubeadm {KUBERNETES_VERSION} lists no image for {', '.join(absent)}")
    return names


def component_images(provider: Provider) -> list[str]:
    """References of all component images, made where they are missing or made of something else."""
    key = digest([KUBERNETES_VERSION, ETCD_VERSION, COREDNS_VERSION, RECIPE_VERSION])
    names = component_names()
    stale = [name for name, reference in names.items() if _key_of(provider, reference) != key]
    if stale:
        with step(f"making component images: {', '.join(stale)}"):
            for name in stale:
                before = provider.image_id(names[name]) if provider.has_image(names[name]) else None
                _make(provider, name, names[name], key)
                if before is not None:
                    succeeds([provider.name, "image", "rm", before], env=provider.env)
    return list(names.values())


def _key_of(provider: Provider, reference: str) -> str:
    if not provider.has_image(reference):
        return ""
    return provider.call(
        "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', reference
    ).strip()


def _make(provider: Provider, name: str, reference: str, key: str) -> None:
    label = f"LABEL {LABEL}={key}"
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        folder = Path(scratch)
        if name == "kube-proxy":
            shutil.copy2(gotools.kubernetes() / name, folder / name)
            lines = [f"FROM {proxy_base_image(provider)}", f"COPY {name} /usr/local/bin/{name}", label]
            (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
            provider.call("build", "-q", "-t", reference, folder)
            return
        programs = folder / "usr/local/bin"
        programs.mkdir(parents=True)
        (folder / "tmp").mkdir()
        _put_program(name, programs / name)
        changes = [PATH_SETTING, label]
        if name in ("coredns", "pause"):
            changes.append(f'ENTRYPOINT ["/usr/local/bin/{name}"]')
        folder.chmod(0o755)
        provider.import_root(folder, reference, changes)


def _put_program(name: str, target: Path) -> None:
    if name == "pause":
        require_packages(("gcc", "libc6-dev"), "building the pause program")
        source = gotools.module_folder("k8s.io/kubernetes", KUBERNETES_VERSION) / "build/pause/linux/pause.c"
        run(["gcc", "-Os", "-static", "-o", target, source])
    elif name == "etcd":
        shutil.copy2(gotools.etcd(), target)
    elif name == "coredns":
        shutil.copy2(gotools.tool("coredns"), target)
    else:
        shutil.copy2(gotools.kubernetes() / name, target)
