"""The recipe of the node image that is built here: Debian with systemd and containerd, kind's own files, Go
binaries.

It follows the Dockerfile of kind's base image. The image holds no component images; those are in the image
store.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

from localcluster import gotools
from localcluster.component_images import component_names
from localcluster.provider import Provider
from localcluster.roots import debootstrap
from localcluster.settings import KIND_VERSION, KUBERNETES_VERSION, NODE_SUITE, cache_folder
from localcluster.shell import run

PRODUCT_HOOK = "/kind/bin/mount-product-files.sh"
PACKAGES = (
    "systemd,systemd-sysv,dbus,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,"
    "libseccomp2,pigz,e2fsprogs,bash,ca-certificates,curl,jq,procps,containerd,runc,"
    "containernetworking-plugins,socat,ebtables,hostname"
)
CNI_TEMPLATE = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": True,
            "mtu": 1500,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "{{.PodCIDR}}"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
CNI_SETTING = (
    '\n[plugins."io.containerd.grpc.v1.cri".cni]\n  conf_template = "/etc/containerd/cni.conflist.tmpl"\n'
)


def build_node_image(provider: Provider, reference: str) -> None:
    """Make the image under this reference, about 2.5 minutes. Raises where this machine lacks root or
    debootstrap.
    """
    binaries = gotools.kubernetes()
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        root = Path(scratch) / "root"
        debootstrap(NODE_SUITE, tuple(PACKAGES.split(",")), root)
        _copy_kind_files(root)
        _set_units(root)
        _set_containerd(root)
        for program in ("kubelet", "kubeadm", "kubectl"):
            shutil.copy2(binaries / program, root / "usr/bin" / program)
        (root / "kind/version").write_text(f"{KUBERNETES_VERSION}\n")
        entrypoint = 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]'
        provider.import_root(root, reference, ["ENV container=docker", "STOPSIGNAL SIGRTMIN+3", entrypoint])


def _copy_kind_files(root: Path) -> None:
    """kind's own files for a node, with the modes that kind's Dockerfile gives them."""
    files = gotools.module_folder("sigs.k8s.io/kind", KIND_VERSION) / "images/base/files"
    for name in ("usr", "kind", "etc"):
        run(["cp", "-r", "--no-preserve=mode", files / name, root])
    for script in [
        *(root / "usr/local/bin").iterdir(),
        *(root / "kind/bin").iterdir(),
        root / "kind",
        root / "kind/bin",
    ]:
        script.chmod(0o755)
    for folder in ("etc/kubernetes/manifests", "etc/cni/net.d", "kind/manifests", "opt/cni"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for program in ("containerd", "ctr"):
        (root / "usr/local/bin" / program).symlink_to(f"/usr/bin/{program}")
    (root / "opt/cni/bin").symlink_to("/usr/lib/cni")


def _set_units(root: Path) -> None:
    """Enable what a node runs and switch off what Debian would start besides."""
    units = root / "lib/systemd/system"
    unwanted = [root / "etc/systemd/system/containerd-fuse-overlayfs.service", units / "containerd.service"]
    for target in ("multi-user", "local-fs", "basic"):
        unwanted += (units / f"{target}.target.wants").glob("*")
    unwanted += (root / "etc/systemd/system").glob("*.wants/*")
    for pattern in ("*udev*", "*initctl*"):
        unwanted += (units / "sockets.target.wants").glob(pattern)
    unwanted.append(units / "sysinit.target.wants/systemd-tmpfiles-setup.service")
    for path in unwanted:
        path.unlink(missing_ok=True)
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/lib/systemd/systemd")
    run(["chroot", root, "systemctl", "-q", "enable", "kubelet", "containerd", "undo-mount-hacks"])
    run(["chroot", root, "systemctl", "-q", "mask", "systemd-binfmt"])


def _set_containerd(root: Path) -> None:
    """The pause image's name, pods without CAP_SYS_RESOURCE, and a pod network of Debian's CNI plugins
    instead of kindnet.
    """
    spec = json.loads(run(["chroot", root, "ctr", "oci", "spec"]))
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append({"path": PRODUCT_HOOK})
    spec["process"].pop("rlimits", None)
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec))
    settings = root / "etc/containerd/config.toml"
    text = re.sub(
        r'sandbox_image = "[^"]*"', f'sandbox_image = "{component_names()["pause"]}"', settings.read_text()
    )
    text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    settings.write_text(text + CNI_SETTING)
    (root / "etc/containerd/cni.conflist.tmpl").write_text(json.dumps(CNI_TEMPLATE))
