"""DiffusionDeployments as users and programs get them wrong, made from the CRD's own schema, with a seed.

Every place of the schema gets its least and its greatest value, what lies beyond, null, other types, text of
other alphabets, a mebibyte, and unknown fields; then come known contradictions, names, and several bad values
at once. Which of them the API server admits is for the tests to find out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builders.contradictions import CONTRADICTIONS, NAMES
from builders.structural import (
    ONE_OF,
    RULED,
    Schema,
    Site,
    Step,
    completed,
    example,
    fits,
    sites,
    spec_schema,
)

SEED = 20260
COUNT = 2_000
MIB = 1 << 20
UNICODE = ("模型-größe-🎨", "a\u202eb", "demo\u0000", "ﬀ\u0301", "\U0010ffff", "demo\n")
NUMBERS_BEYOND = (2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 1e308, -1, 0.5)
QUANTITIES = ("0", 0, -1, 2**63 - 1, ".5", "1m", "9" * 60 + "Ei", "9" * 70, "1e3", "64gi", "Gi", "", "1 Gi")
WRONG: dict[str, Any] = {"a text": "text", "a number": 7, "true": True, "a list": [1], "a map": {"a": 1}}
TYPES = {
    "string": "a text",
    "integer": "a number",
    "number": "a number",
    "boolean": "true",
    "array": "a list",
}
KINDS = (
    "minimum", "maximum", "beyond", "null", "wrong type", "unicode", "1 MiB", "unknown field",
    "contradiction", "name", "several at once",
)  # fmt: skip


@dataclass(frozen=True)
class BadResource:
    """One object. `field` is the spoilt place, as the API server spells it; '' where several are."""

    number: int
    kind: str
    field: str
    name: str
    spec: Any

    def manifest(self, spec: Any = None) -> dict[str, Any]:
        """The object to send."""
        return {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": self.name},
            "spec": self.spec if spec is None else spec,
        }


def bad_resources(base: Mapping[str, Any], count: int = COUNT, seed: int = SEED) -> list[BadResource]:
    """So many, in a fixed order that mixes the kinds; `base` is a good spec that the rest is taken from."""
    rng = random.Random(seed)
    made = list(_named(base))
    made += [("contradiction", field, "", merged(base, spec)) for field, spec in CONTRADICTIONS]
    schema = spec_schema()
    single = [(site, kind, value) for site in sites(schema) for kind, value in _values(site)]
    rng.shuffle(single)
    room = max(0, count - len(made))
    for site, kind, value in single[: room * 3 // 4]:
        made.append((kind, _spoilt(site, kind), "", placed(schema, site.steps[1:], value, base)))
    small = [(site, value) for site, _, value in single if len(site.steps) > 1 and len(repr(value)) < 1000]
    fitting = [(site, value) for site, value in small if fits(value, site.schema)]
    while len(made) < count:
        spec: Any = dict(base)
        # Half of them hold only what the schema admits for itself.
        for site, value in rng.sample(rng.choice((small, fitting)), rng.randint(2, 4)):
            spec = placed(schema, site.steps[1:], value, spec)
        made.append(("several at once", "", "", spec))
    rng.shuffle(made)
    return [
        BadResource(number, kind, field, name or f"bad-{number}", spec)
        for number, (kind, field, name, spec) in enumerate(made[:count])
    ]


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `more`; a model source replaces the other."""
    made = dict(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict) and key != "source"
        made[key] = merged(made[key], value) if both else value
    return made


def placed(schema: Schema, steps: Sequence[Step], value: Any, base: Any) -> Any:
    """`base` with the value at this place, and whatever the objects around it must have."""
    if not steps:
        return value
    step, *rest = steps
    if isinstance(step, int):
        return [placed(schema["items"], rest, value, None)]
    child = schema["properties"][step] if "properties" in schema else schema["additionalProperties"]
    given = dict(base) if isinstance(base, Mapping) else {}
    for choices, _ in ONE_OF:
        if (
            step in choices
            and choices <= set(schema.get("properties", {}))
            and RULED & set(schema["properties"])
        ):
            given = {name: kept for name, kept in given.items() if name not in choices}
    return completed(schema, {**given, step: placed(child, rest, value, given.get(step))})


def _spoilt(site: Site, kind: str) -> str:
    return f"{site.path}.unknownField" if kind == "unknown field" else site.path


def _named(base: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for name in NAMES:
        yield "name", "metadata.name", name, dict(base)


def _values(site: Site) -> Iterator[tuple[str, Any]]:
    """Bad values, and good ones at the limits, for one place."""
    schema = site.schema
    kind = "quantity" if schema.get("x-kubernetes-int-or-string") else schema["type"]
    yield "null", None
    own = TYPES.get(kind)
    yield from (("wrong type", value) for name, value in WRONG.items() if name != own and kind != "quantity")
    yield from {
        "quantity": _quantities, "string": _texts, "integer": _numbers, "number": _numbers,
        "boolean": lambda _: [("wrong type", "true")], "array": _lists, "object": _objects,
    }[kind](schema)  # fmt: skip


def _quantities(schema: Schema) -> Iterator[tuple[str, Any]]:
    yield from (("beyond", value) for value in QUANTITIES)
    others: tuple[Any, ...] = (1.5, True, [], {})
    yield from (("wrong type", value) for value in others)
    yield "unicode", "１Gi"
    yield "1 MiB", "1" * MIB


def _texts(schema: Schema) -> Iterator[tuple[str, Any]]:
    good = example(schema)
    yield "minimum", good
    if "enum" in schema:
        yield "maximum", schema["enum"][-1]
        yield "beyond", str(good).upper()
    else:
        longest = schema.get("maxLength", 4096)
        yield "maximum", _stretched(good, longest)
        yield "beyond", _stretched(good, longest + 1)
        yield from (("beyond", text) for text in ("", " ", "-", "../x", "a/../../b", "$(PATH)"))
    yield from (("unicode", text) for text in UNICODE)
    yield "1 MiB", _stretched(good, MIB)


def _stretched(text: str, length: int) -> str:
    """A text of this length that the pattern of the short one still takes, where it takes letters at all."""
    return text + "a" * (length - len(text))


def _numbers(schema: Schema) -> Iterator[tuple[str, Any]]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        yield from (("minimum", low), ("beyond", low - 1))
    if high is not None:
        yield from (("maximum", high), ("beyond", high + 1))
    yield from (("beyond", value) for value in NUMBERS_BEYOND)


def _lists(schema: Schema) -> Iterator[tuple[str, Any]]:
    entry, longest = example(schema["items"]), schema.get("maxItems", 16)
    yield "minimum", []
    yield "maximum", [_other(entry, number) for number in range(longest)]
    yield "beyond", [_other(entry, number) for number in range(longest + 1)]
    yield "beyond", [entry, entry]
    yield "null", [None]
    yield "wrong type", [entry, 7, "text", {}]


def _other(entry: Any, number: int) -> Any:
    """The entry with names of its own."""
    if not isinstance(entry, dict):
        return entry
    own = {"name": f"name-{number}"} if "name" in entry else {}
    return entry | own | ({"mountPath": f"/data-{number}"} if "mountPath" in entry else {})


def _objects(schema: Schema) -> Iterator[tuple[str, Any]]:
    yield "minimum", {}
    if "properties" in schema:
        yield "unknown field", completed(schema, {"unknownField": 1})
        yield "wrong type", dict.fromkeys(schema["properties"], "text")
        return
    entry, longest = example(schema["additionalProperties"]), schema.get("maxProperties", 16)
    yield "maximum", {f"key-{number}": entry for number in range(longest)}
    yield "beyond", {f"key-{number}": entry for number in range(longest + 1)}
    yield from (("beyond", {key: entry}) for key in ("", " ", "a b", "-a", "a/b/c", "x" * 64, "../x", "A_b"))
    yield from (("unicode", {text: entry}) for text in UNICODE)
    yield "1 MiB", {"k" * MIB: entry}
