"""The picture VAE that FLUX.1 and Z-Image share: published config and the total of the locked class.

Source: the vae/config.json of FLUX.1-dev, repeated by Z-Image (167,639,366 bytes in bfloat16 as measured).
"""

from __future__ import annotations

from diffusion_runtime.models.inventory import Part

PICTURE_VAE = Part(
    name="vae",
    class_name="AutoencoderKL",
    config={
        "latent_channels": 16,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "sample_size": 1024,
    },
    elements=83_819_683,
)
