"""Facts of a model that lies elsewhere, from its configs and safetensors headers: kilobytes, not gigabytes.

They are written as a folder whose weight files have their true size and header but no weights (holes), so
that one counter, the one for local folders, judges both.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.models.safetensors_header import LENGTH_BYTES, header_length
from diffusion_runtime.planning.documents import ModelRef
from diffusion_runtime.planning.facts import ModelFacts

from .choice import INDEX, choose
from .source import RemoteFile, RemoteModel, Source

FIRST_READ_BYTES = 256 * 2**10
"""Most headers end within; a longer one costs one more request."""
REQUESTS_AT_ONCE = 8


def remote_facts(source: Source, variant: str | None) -> tuple[ModelFacts, RemoteModel]:
    """Facts, and the listing they are of. Raises BadRequest, BadModelFolder, FetchFailed."""
    model = source.look()

    def whole(file: RemoteFile) -> bytes:
        return source.read(model, file, 0, file.size)

    chosen = choose(model, whole, variant)
    with tempfile.TemporaryDirectory(prefix="diffusion-inspect-") as temporary:
        folder = Path(temporary)

        def write(item: tuple[str, RemoteFile]) -> None:
            target = folder / item[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            if item[0].endswith(".safetensors"):
                target.write_bytes(_header(source, model, item[1]))
                os.truncate(target, item[1].size)
            else:
                target.write_bytes(whole(item[1]))

        needed = {path: file for path, file in chosen.items() if _is_needed(path)}
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            for _ in pool.map(write, needed.items()):
                pass
        facts = facts_from_folder(folder)
    reference = ModelRef(
        name=model.name, family=facts.model.family, source=source.kind, revision=model.commit
    )
    return facts.model_copy(update={"model": reference}), model


def _is_needed(path: str) -> bool:
    return path == INDEX or path.endswith(("/config.json", ".safetensors", ".safetensors.index.json"))


def _header(source: Source, model: RemoteModel, file: RemoteFile) -> bytes:
    """The file's first bytes, to the end of its header."""
    start = source.read(model, file, 0, FIRST_READ_BYTES)
    end = LENGTH_BYTES + header_length(Path(file.path), start[:LENGTH_BYTES], file.size)
    if end > len(start):
        start += source.read(model, file, len(start), end - len(start))
    return start[:end]
