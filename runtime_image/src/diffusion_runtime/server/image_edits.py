"""POST /v1/images/edits: a form with pictures and words, as OpenAI clients send it, to the fields of the
images call and the files beside them. The fields are then checked as that call's are (image_request).
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .body import limited
from .image_request import PictureRules
from .openai_errors import ApiError, bad_field

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_FIELD_BYTES = 256 * 1024
MAX_FIELDS = 32
FILE_FIELDS = ("image", "image[]")
TEXTS = frozenset({
    "prompt", "model", "size", "response_format", "output_format", "negative_prompt", "user", "quality",
    "background", "moderation", "input_fidelity",
})  # fmt: skip


async def edit_form(request: Request, rules: PictureRules) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """The fields, numbers as numbers, and the files in their order. Raises ApiError (400 or 413)."""
    most = rules.input_images[1]
    bounded = limited(request, max(most, 1) * MAX_FILE_BYTES + MAX_FIELDS * MAX_FIELD_BYTES)
    try:
        async with bounded.form(
            max_files=most + 1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        ) as form:
            _check_files(form, rules)
            pictures = tuple([await _content(value) for value in _files(form)])
            fields = {
                name: value if name in TEXTS else _value(value)
                for name, value in form.items()
                if isinstance(value, str)
            }
    except HTTPException as error:
        raise ApiError(400, f"The form cannot be read: {error.detail}", code="invalid_form") from error
    return fields, pictures


def _check_files(form: FormData, rules: PictureRules) -> None:
    least, most = rules.input_images
    for name, value in form.multi_items():
        if name == "mask":
            raise bad_field("mask", "mask is not supported: this model looks at whole pictures.")
        if isinstance(value, UploadFile) and name not in FILE_FIELDS:
            raise bad_field(name, f"{name} takes no file; pictures are sent as image.")
        if not isinstance(value, UploadFile) and name in FILE_FIELDS:
            raise bad_field("image", "image must be a file of the form.")
    count = len(_files(form))
    if not least <= count <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise bad_field("image", f"image: {count} pictures were sent; {rules.model!r} edits {expected}.")


def _files(form: FormData) -> list[UploadFile]:
    return [value for _, value in form.multi_items() if isinstance(value, UploadFile)]


async def _content(file: UploadFile) -> bytes:
    data = await file.read()
    if len(data) > MAX_FILE_BYTES:
        raise bad_field("image", f"image is larger than {MAX_FILE_BYTES} bytes.")
    return data


def _value(text: str) -> Any:
    """A number, true or false of a form, which come as text. What is none stays text and is refused later."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float, bool)) else text
