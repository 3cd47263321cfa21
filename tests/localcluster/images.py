"""Builds the product's two images, tagged by the hash of what they are made of, and tidies up older ones.

Settings of this machine (package index, certificates, proxy) reach the build as read-only mounts, so that
they never end up in an image or in the repository.
"""

from __future__ import annotations

from dataclasses import dataclass

from localcluster.buildsettings import build_flags
from localcluster.cache import digest, locked, require_disk
from localcluster.nodeimage import NodeImage
from localcluster.progress import say, step
from localcluster.provider import Provider
from localcluster.roots import base_image
from localcluster.settings import REPOSITORY
from localcluster.shell import CommandError


@dataclass(frozen=True)
class ProductImage:
    """One image of the product: its Dockerfile and the paths (in the repository) that it is made of."""

    repository: str
    dockerfile: str
    inputs: tuple[str, ...]
    needed_gib: float

    def key(self, base: str) -> str:
        return digest([base, *(REPOSITORY / path for path in (self.dockerfile, *self.inputs))])


SHARED_INPUTS = (
    "pyproject.toml",
    "uv.lock",
    ".dockerignore",
    "operator/pyproject.toml",
    "runtime_image/pyproject.toml",
)
ENGINE = ProductImage(
    "localhost/diffusion-engine",
    "runtime_image/Dockerfile",
    (*SHARED_INPUTS, "runtime_image/src", "runtime_image/models"),
    needed_gib=24,
)
OPERATOR = ProductImage(
    "localhost/diffusion-operator",
    "operator/Dockerfile",
    (*SHARED_INPUTS, "runtime_image/src", "operator/src"),
    needed_gib=4,
)


@dataclass(frozen=True)
class ProductImages:
    """References of the two images, as the chart's values take them."""

    engine: str
    operator: str


def product_images(provider: Provider, node: NodeImage) -> ProductImages:
    """Both images, built where they are missing."""
    base = base_image(provider) if node.built_here else ""
    with locked("product-images"):
        return ProductImages(engine=_built(provider, ENGINE, base), operator=_built(provider, OPERATOR, base))


def _built(provider: Provider, image: ProductImage, base: str) -> str:
    reference = f"{image.repository}:{image.key(base)}"
    if provider.has_image(reference):
        say(f"{reference} is built")
        return reference
    require_disk(image.needed_gib if not provider.images(image.repository) else 3, f"building {reference}")
    flags = [
        "--network",
        "host",
        "-t",
        reference,
        "-f",
        REPOSITORY / image.dockerfile,
        *build_flags(provider.name),
    ]
    if base:
        flags += ["--build-arg", f"BASE_IMAGE={base}"]
    with step(f"building {reference}"):
        try:
            provider.call("build", *flags, REPOSITORY, timeout_seconds=2400)
        except CommandError as failed:
            raise CommandError(["build", image.dockerfile], failed.status, failed.output) from None
    provider.remove_older_images(image.repository, reference)
    if base:
        provider.remove_stale_layers(base)
    return reference
