"""Flags win over the environment, and bad settings end in one sentence."""

from __future__ import annotations

import pytest

from diffusion_operator.settings import read_settings

ENVIRONMENT = {
    "DIFFUSION_ENGINE_IMAGE": "engine:env",
    "HOSTNAME": "operator-7",
    "DIFFUSION_NAMESPACES": "a, b,",
}


def test_the_environment_is_enough() -> None:
    settings = read_settings([], ENVIRONMENT)
    assert settings.render.engine_image == "engine:env"
    assert settings.namespaces == ("a", "b")
    assert settings.instance == "operator-7"
    assert (settings.client.rate_per_s, settings.client.burst) == (200, 400)
    assert settings.client.kubeconfig is None


def test_a_flag_wins() -> None:
    settings = read_settings(["--engine-image", "engine:flag", "--namespaces", ""], ENVIRONMENT)
    assert settings.render.engine_image == "engine:flag"
    assert settings.namespaces == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--engine-image (or DIFFUSION_ENGINE_IMAGE) is needed"),
        (["--engine-image=e", "--log-level=loud"], "--log-level is 'loud'; use one of debug"),
        (["--engine-image=e", "--engine-image-pull-policy=Maybe"], "is 'Maybe'; use one of Always"),
        (["--engine-image=e", "--workers=0"], "0 is not a positive number"),
        (["--engine-image=e", "--http-port=70000"], "70000 is no port"),
    ],
)
def test_bad_settings_are_named(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(arguments, {})
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
