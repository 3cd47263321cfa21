"""Names that are a contract: API group, labels, annotations and child names.

Every room reads them here. Names are derived from the deployment's name alone, so that a repeated create
after a crash meets the same object.
"""

from __future__ import annotations

import hashlib
import re

API_GROUP = "diffusion-operator.io"
API_VERSION = "v1alpha1"
GROUP_VERSION = f"{API_GROUP}/{API_VERSION}"
KIND = "DiffusionDeployment"
PLURAL = "diffusiondeployments"
SHORT_NAME = "dd"
FIELD_MANAGER = "diffusion-operator"

LABEL_DEPLOYMENT = f"{API_GROUP}/deployment"
LABEL_GROUP = f"{API_GROUP}/group"
LABEL_PLAN_HASH = f"{API_GROUP}/plan-hash"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "diffusion-engine"

ANNOTATION_PLAN_HASH = LABEL_PLAN_HASH
ANNOTATION_INTENT = f"{API_GROUP}/intent"

RESERVED_LABEL_PREFIX = f"{API_GROUP}/"
RESERVED_LABELS = (LABEL_NAME, LABEL_INSTANCE, LABEL_MANAGED_BY)

MAX_NAME_LENGTH = 40
MAX_GROUP_LENGTH = 20
PLAN_KEY = "plan.json"


def group_slug(device_name: str) -> str:
    """Group name of a product: lower case, DNS label characters, at most 20 and still unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-") or "gpu"
    if len(slug) <= MAX_GROUP_LENGTH:
        return slug
    digest = hashlib.sha256(device_name.lower().encode()).hexdigest()[:4]
    return f"{slug[: MAX_GROUP_LENGTH - 5].rstrip('-')}-{digest}"


def distinct_slug(slug: str, product: str) -> str:
    """Another name for a group whose short name belongs to another product: still at most 20 characters."""
    digest = hashlib.sha256(product.encode()).hexdigest()[:4]
    return f"{slug[: MAX_GROUP_LENGTH - 5].rstrip('-')}-{digest}"


def deployment_name(dd_name: str, group: str) -> str:
    """Name of the Deployment of one group."""
    return f"{dd_name}-{group}"


def plan_config_map_name(dd_name: str, group: str, plan_hash: str) -> str:
    """Name of the immutable ConfigMap that carries one plan."""
    return f"{dd_name}-{group}-{plan_hash}"


def child_labels(dd_name: str, group: str | None = None) -> dict[str, str]:
    """Labels of every child; `group` is absent on what all groups share (Service, PDB, ServiceAccount)."""
    labels = {
        LABEL_NAME: APP_NAME,
        LABEL_INSTANCE: dd_name,
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_DEPLOYMENT: dd_name,
    }
    return labels if group is None else labels | {LABEL_GROUP: group}
