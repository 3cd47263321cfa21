"""From the text after --model-path to the place that keeps the model."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from diffusion_runtime.planning.errors import BadRequest

from .source import Source

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def is_remote(model: str) -> bool:
    """OWNER/NAME of a hub or s3://BUCKET/PREFIX, and no folder of this machine."""
    if model.startswith("s3://"):
        return True
    return bool(_REPOSITORY.fullmatch(model)) and not model.startswith(".") and not Path(model).is_dir()


def source_of(model: str, revision: str | None) -> Source:
    """Raises BadRequest. Libraries are imported here, so that planning needs none of them."""
    if model.startswith("s3://"):
        from .s3 import S3Source

        if revision is not None:
            raise BadRequest("revision", "--revision is for repositories of a hub; an S3 prefix has none.")
        return S3Source(model)
    if urlsplit(model).scheme or not is_remote(model):
        raise BadRequest("modelPath", f"{model!r} is neither OWNER/NAME of a hub nor s3://BUCKET/PREFIX.")
    from .hub import HubSource

    return HubSource(model, revision)
