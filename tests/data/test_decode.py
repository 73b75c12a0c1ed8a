from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from reading import array
from wisp.data.sources import CorruptImage
from wisp.data.sources.decode import open_bytes, to_rgb


def decode(data: bytes, at_least: int | None = None) -> Tensor:
    pixels = to_rgb(open_bytes(data, lambda: "it"), lambda: "it", at_least)
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] == 3
    return pixels


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG, grey [H,W] or RGB [H,W,3], which PIL cannot write in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_rgb_is_exact(kind, picture, encoded):
    assert torch.equal(decode(encoded(picture(0), kind)), array(picture(0)))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_are_close(kind, picture, encoded):
    difference = decode(encoded(picture(0, 64, 48), kind, quality=95)).float() - array(picture(0, 64, 48)).float()
    assert difference.abs().mean() < 6


def test_grey_fills_all_channels(picture, encoded):
    grey = picture(0).convert("L")
    assert torch.equal(decode(encoded(grey)), array(Image.merge("RGB", [grey] * 3)))


def test_one_bit_is_black_and_white(picture, encoded):
    assert set(decode(encoded(picture(0).convert("1"))).unique().tolist()) == {0, 255}


def test_palette_gives_its_colours(picture, encoded):
    few = picture(0).quantize(8)
    assert torch.equal(decode(encoded(few)), array(few.convert("RGB")))


def test_transparent_palette_entry_turns_white(encoded):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putpixel((1, 0), 1)
    pixels = decode(encoded(image, transparency=0))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 1].tolist() == [10, 200, 10]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composed_over_white(mode, encoded):
    image = Image.new("RGBA", (3, 1), (40, 40, 40, 255))
    image.putpixel((1, 0), (40, 40, 40, 0))
    image.putpixel((2, 0), (55, 55, 55, 128))
    pixels = decode(encoded(image.convert(mode)))
    assert pixels[0, 0].tolist()[:2] == [40, 255]
    assert abs(pixels[0, 0, 2].item() - 155) <= 1  # 55 * 128/255 + 255 * 127/255


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_colour_key_of_a_png_turns_white(mode, encoded):
    image = Image.new(mode, (2, 1), (9, 9, 9) if mode == "RGB" else 9)
    image.putpixel((1, 0), (70, 70, 70) if mode == "RGB" else 70)
    pixels = decode(encoded(image, transparency=(9, 9, 9) if mode == "RGB" else 9))
    assert pixels[0, 0].tolist() == [255, 70]


def test_cmyk_jpeg_keeps_its_colours(picture, encoded):
    image = picture(0, 64, 48)
    pixels = decode(encoded(image.convert("CMYK"), "JPEG", quality=98))
    assert (pixels.float() - array(image).float()).abs().mean() < 6


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.arange(0, 65536, 257).reshape(16, 16)
    pixels = decode(png16(values))
    assert torch.equal(pixels[0], torch.arange(256, dtype=torch.uint8).view(16, 16))
    assert torch.equal(pixels[0], pixels[2])


def test_sixteen_bit_rounds_to_nearest():
    assert decode(png16(np.array([[128, 129, 65535]])))[0].tolist() == [[0, 1, 255]]


def test_sixteen_bit_colour():
    values = (np.arange(256 * 3).reshape(16, 16, 3) * 85).astype(np.uint16)
    expected = torch.from_numpy(np.rint(values / 257)).permute(2, 0, 1)
    assert (decode(png16(values)).float() - expected).abs().max() <= 1


def test_big_endian_sixteen_bit_tiff(encoded):
    image = Image.frombytes("I;16B", (3, 1), struct.pack(">3H", 0, 32896, 65535))
    assert decode(encoded(image, "TIFF"))[0].tolist() == [[0, 128, 255]]


def test_32_bit_tiff_with_16_bit_values(encoded):
    image = Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.int32))
    assert decode(encoded(image, "TIFF"))[0].tolist() == [[0, 128, 255]]


def test_float_tiff_in_unit_range(encoded):
    assert decode(encoded(Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)), "TIFF"))[0].tolist() == [
        [0, 128, 255]
    ]


@pytest.mark.parametrize("values", [np.array([[0, 70000]], dtype=np.int32), np.array([[0, 2.5]], dtype=np.float32)])
def test_undefined_ranges_are_refused(values, encoded):
    with pytest.raises(CorruptImage, match="no defined range"):
        decode(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_shows_its_first_frame(kind, encoded):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert pixels[:, 3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_orientation_is_applied(orientation, kind, picture, encoded):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(1), kind, exif=exif)
    assert torch.equal(decode(data), array(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def test_orientation_of_a_transparent_16_bit_or_grey_image(picture, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGBA", "L", "I;16"):
        assert decode(encoded(picture(1).convert("L" if mode == "I;16" else mode).convert(mode), exif=exif)).shape == (
            3,
            20,
            16,
        )


def test_truncated_jpeg(picture, encoded):
    data = encoded(picture(0, 256, 256), "JPEG", quality=95)
    with pytest.raises(CorruptImage, match="it: image file is truncated"):
        decode(data[: len(data) // 2])


def test_damaged_png(picture, encoded):
    data = bytearray(encoded(picture(0, 64, 64)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(CorruptImage):
        decode(bytes(data))


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty file"), (b"hello, I am a text", "not an image")])
def test_what_is_no_image(data, reason):
    with pytest.raises(CorruptImage, match=f"it: {reason}"):
        decode(data)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # PIL warns about TIFF, then raises
def test_every_prefix_of_an_image_decodes_or_is_corrupt(picture, encoded):
    """Whatever PIL's parsers raise on half a file, the loader must see one kind of error."""
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"):
        data = encoded(picture(0), kind)
        reasons = []
        for length in range(0, len(data), max(1, len(data) // 20)):
            try:
                decode(data[:length])
            except CorruptImage as problem:
                reasons.append(problem.reason)
        assert len(reasons) > 5, kind
        assert all(reason and "\n" not in reason for reason in reasons), kind


def test_large_jpeg_is_decoded_at_the_size_that_is_needed(picture, encoded):
    image = picture(0, 512, 384)
    data = encoded(image, "JPEG", quality=95)
    for at_least, short in ((385, 384), (200, 384), (192, 192), (100, 192), (96, 96), (40, 48), (10, 48)):
        assert min(decode(data, at_least).shape[1:]) == short
    half = array(image.resize((256, 192), Image.Resampling.BOX)).float()
    assert (decode(data, 192).float() - half).abs().mean() < 2


def test_only_jpegs_are_reduced(picture, encoded):
    assert decode(encoded(picture(0, 512, 384)), 10).shape == (3, 384, 512)
