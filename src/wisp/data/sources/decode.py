"""From a stored image of any kind to RGB uint8, or a clear reason why not.

How each kind is read:

- grey, CMYK, YCbCr, Lab, 1-bit: PIL's conversion to RGB.
- palette, grey or RGB *with* transparency, and every alpha channel: composed over white, as a viewer shows it.
- 16 bits a channel: v / 257, rounded, so that 65,535 is 255 (PIL's own conversion would clip everything above 255).
- 32-bit integers: taken as 16-bit values when they fit, otherwise refused. Floats: only when they lie in 0..1.
- animations and multi-page files: the first frame.
- EXIF orientation: applied, so that the picture stands upright.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from wisp.data.sources.source import CorruptImage

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
_ORIENTATION = 0x0112  # EXIF tag; its values from 2 on, and what sets the picture upright again
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_bytes(data: bytes, name: Callable[[], str]) -> Image.Image:
    """Read the header of an encoded image.

    Args:
        data: the file as it is stored.
        name: asked only when something is wrong.

    Raises:
        CorruptImage: empty, or no image format that PIL knows.
    """
    if not data:
        raise CorruptImage(name(), "empty file")
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise CorruptImage(name(), "not an image") from None
    except Exception as problem:  # a broken header raises whatever the format's parser trips over
        raise CorruptImage(name(), _reason(problem)) from problem


def to_rgb(image: Image.Image, name: Callable[[], str], at_least: int | None = None) -> Tensor:
    """Decode the pixels: uint8 [3,H,W], in the memory order that PIL delivers (channels last).

    Args:
        image: as opened.
        name: asked only when something is wrong.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while its shorter side keeps this many pixels,
            which makes a 12-megapixel photo up to six times as fast.

    Raises:
        CorruptImage: truncated or damaged data, or pixels whose range is undefined.
    """
    try:
        if at_least is not None:
            width, height = image.size
            short = min(width, height)
            image.draft(None, (-(-width * at_least // short), -(-height * at_least // short)))
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))  # before a conversion drops the EXIF data
        if image.mode == "F" or image.mode.startswith("I"):
            image = _eight_bits(image, name())
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if turn is not None:
            image = image.transpose(turn)
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except CorruptImage:
        raise
    except Exception as problem:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise CorruptImage(name(), _reason(problem)) from problem
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A 16-bit, 32-bit or float grey image as 8-bit grey."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise CorruptImage(name, "float pixels outside 0..1 have no defined range; store 8 or 16 bits a channel")
        scaled = values * 255
    else:
        if not (low >= 0 and high <= 65535):
            raise CorruptImage(name, "32-bit pixels outside 0..65535 have no defined range; store 8 or 16 bits")
        scaled = values / 257
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _reason(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return text[:1].lower() + text[1:] if text else type(problem).__name__
