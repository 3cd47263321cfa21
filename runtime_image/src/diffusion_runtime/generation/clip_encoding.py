"""Frames and sound to an MP4 file: H.264 in yuv420p, which every player shows, and AAC.

PyAV does it, with the FFmpeg libraries that its wheels bring; the encoder is libx264. Colours are BT.709 in
limited range and tagged so: untagged, players guess by size and some are wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from .sound import Sound

QUALITY = "18"  # libx264's constant rate factor: hardly told from the frames themselves
FASTEST_TIMEBASE = 1001  # 23.976 frames a second is 24000/1001


def encode_clip(frames: torch.Tensor, fps: float, sound: Sound | None = None, threads: int = 1) -> bytes:
    """Frames (frames, height, width, 3) uint8, both sides even, to an MP4 file with its index in front.

    The same arguments give the same bytes. Sound longer or shorter than the clip is kept as it is.
    """
    with tempfile.TemporaryDirectory(prefix="diffusion-clip-") as folder:
        path = Path(folder) / "clip.mp4"  # a file: the index is moved to the front in a second pass
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            video = _video_stream(container, frames, fps, threads)
            audio = container.add_stream("aac", rate=sound.rate, layout=_layout(sound)) if sound else None
            for frame in _video_frames(frames):
                container.mux(video.encode(frame))
            container.mux(video.encode())
            if sound is not None and audio is not None:
                container.mux(audio.encode(_audio_frame(sound)))
                container.mux(audio.encode())
        return path.read_bytes()


def _video_stream(container: Any, frames: torch.Tensor, fps: float, threads: int) -> Any:
    rate = Fraction(fps).limit_denominator(FASTEST_TIMEBASE)
    stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = threads
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _video_frames(frames: torch.Tensor) -> Iterator[Any]:
    for pixels in frames.numpy():
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )


def _audio_frame(sound: Sound) -> Any:
    samples = sound.samples.float().clamp(-1, 1).cpu().contiguous().numpy()
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=_layout(sound))
    frame.sample_rate = sound.rate
    return frame


def _layout(sound: Sound) -> str:
    return {1: "mono", 2: "stereo"}[sound.samples.shape[0]]
