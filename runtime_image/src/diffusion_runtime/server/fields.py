"""Single fields of a JSON body or a form: the value, or one sentence that names the field and what is wrong.

What a field means is not known here; pictures and clips share these readers.
"""

from __future__ import annotations

from typing import Any

from .openai_errors import bad_field

MAX_PROMPT_CHARACTERS = 32_000
MAX_GUIDANCE_SCALE = 100.0


def text(body: dict[str, Any], name: str, *, required: bool) -> str:
    """A string of valid Unicode, read to its end; empty when it is neither given nor required."""
    value = body.get(name, "" if not required else None)
    if value is None:
        raise bad_field(name, f"{name} is missing; it must be a string.")
    if not isinstance(value, str):
        raise bad_field(name, f"{name} must be a string, not {kind(value)}.")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise bad_field(
            name, f"{name} has {len(value)} characters; at most {MAX_PROMPT_CHARACTERS} are read."
        )
    if required and not value.strip():
        raise bad_field(name, f"{name} is empty; say what to draw.")
    if not value.isprintable() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise bad_field(name, f"{name} is not valid Unicode text (it holds half of a surrogate pair).")
    return value


def integer(body: dict[str, Any], name: str, low: int, high: int, default: int) -> int:
    """A whole number from `low` to `high`."""
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_field(name, f"{name} must be an integer, not {kind(value)}.")
    if not low <= value <= high:
        raise bad_field(name, f"{name} {value} is out of range; it must be {low} to {high}.")
    return value


def boolean(body: dict[str, Any], name: str) -> bool:
    """True or false; false when it is not given."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise bad_field(name, f"{name} must be true or false, not {kind(value)}.")
    return value


def number(body: dict[str, Any], name: str) -> float:
    """A scale that was given: 0 to `MAX_GUIDANCE_SCALE`."""
    value = body[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise bad_field(name, f"{name} must be a number, not {kind(value)}.")
    if not 0 <= value <= MAX_GUIDANCE_SCALE:
        raise bad_field(name, f"{name} {value} is out of range; it must be 0 to {MAX_GUIDANCE_SCALE:g}.")
    return float(value)


def choice(body: dict[str, Any], name: str, allowed: tuple[Any, ...], default: Any) -> Any:
    """One of the strings that are allowed."""
    value = body.get(name, default)
    if value not in allowed or not isinstance(value, str):
        raise bad_field(name, f"{name} {value!r} is not supported; this engine takes {words(allowed)}.")
    return value


def words(values: tuple[Any, ...]) -> str:
    """The values, for a sentence."""
    return " or ".join(repr(value) for value in values)


def kind(value: Any) -> str:
    """What JSON calls the type of a value, for a sentence."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
