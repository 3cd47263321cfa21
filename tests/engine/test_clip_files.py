"""MP4 files: decoded again they have the frames, the size, the rate and the sound that went in."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace

from diffusion_runtime.generation.clip_encoding import encode_clip
from diffusion_runtime.generation.sound import Sound


def gradient(frames: int, height: int, width: int) -> torch.Tensor:
    """A slope that moves, one colour a channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    clip = [np.stack([columns + 4 * i, rows + 2 * i, rows + columns], axis=-1) % 200 for i in range(frames)]
    return torch.tensor(np.stack(clip).astype(np.uint8))


def opened(file: bytes) -> Any:
    return av.open(io.BytesIO(file))


def decoded(file: bytes) -> np.ndarray[Any, Any]:
    with opened(file) as container:
        frames = [
            frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709)
            for frame in container.decode(video=0)
        ]
        return np.stack([frame.to_ndarray() for frame in frames])


@pytest.mark.parametrize("fps", [16.0, 24.0, 24000 / 1001])
def test_frames_size_and_rate_come_back(fps: float) -> None:
    frames = gradient(9, 48, 80)
    file = encode_clip(frames, fps)
    with opened(file) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 9
        assert stream.average_rate == Fraction(fps).limit_denominator(1001)
        assert len(container.streams) == 1
    back = decoded(file)
    assert back.shape == (9, 48, 80, 3)
    assert np.abs(back.astype(int) - frames.numpy()).mean() < 4


def test_colours_are_tagged_and_come_back() -> None:
    red = torch.tensor([200, 50, 0], dtype=torch.uint8).expand(3, 32, 32, 3)
    file = encode_clip(red, 16)
    with opened(file) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)  # BT.709
    assert np.abs(decoded(file)[1, 16, 16].astype(int) - [200, 50, 0]).max() <= 3


@pytest.mark.parametrize(("channels", "layout"), [(1, "mono"), (2, "stereo")])
def test_sound_comes_back(channels: int, layout: str) -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(24_000) / 24_000)
    file = encode_clip(gradient(24, 32, 32), 24.0, Sound(tone.expand(channels, -1), 24_000))
    with opened(file) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.layout.name, stream.rate) == ("aac", layout, 24_000)
        assert abs(float(stream.duration * stream.time_base) - 1.0) < 0.1
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert samples.shape[0] == channels
    spectrum = np.abs(np.fft.rfft(samples[0, :24_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 2
    assert abs(samples[0, 4000:20_000].std() - 0.5 / 2**0.5) < 0.05


def test_same_frames_same_bytes_and_index_in_front() -> None:
    """Players begin before the whole file is there."""
    file = encode_clip(gradient(5, 32, 32), 16)
    assert file == encode_clip(gradient(5, 32, 32), 16)
    assert file.index(b"moov") < file.index(b"mdat")
