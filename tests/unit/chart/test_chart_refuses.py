"""Wrong and missing values end the render with a sentence that names the value."""

from __future__ import annotations

import pytest

from unit.chart.helm import IMAGES, template


@pytest.mark.parametrize(
    ("images", "missing"),
    [((), "operator.image.repository"), ((IMAGES[0],), "engine.image.repository")],
)
def test_an_image_that_is_not_set_is_named(images: tuple[str, ...], missing: str) -> None:
    finished = template(images=images)
    assert finished.returncode != 0
    assert f"{missing} is empty. No image of this project is published yet" in finished.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("operator.replicas=9", "/operator/replicas"),
        ("operator.image.name=x", "additional properties 'name' not allowed"),
        ("operator.logLevel=loud", "/operator/logLevel"),
        ("engine.image.pullPolicy=Sometimes", "/engine/image/pullPolicy"),
        ("engine.image.digest=abc", "/engine/image/digest"),
        ("crds.enabled=perhaps", "/crds/enabled"),
        ("engine.minimumDriver=r580", "/engine/minimumDriver"),
        ("nodePools[0].name=a", "missing properties"),
        ("nodePools[0].zone=a", "additional properties 'zone' not allowed"),
        ("operator.extraEnv[0].value=x", "/operator/extraEnv/0"),
    ],
)
def test_the_schema_names_what_it_refuses(setting: str, words: str) -> None:
    finished = template(setting)
    assert finished.returncode != 0
    assert words in finished.stderr
