"""Pixel formats and orientations: labels as they were stored, pictures as RGB, or a DataError that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from privseg.datasets.sources.base import Sample, read_image, read_mask
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError, UsageError
from privseg.params import SourceParams

ONE_PART = [{"pool": "train", "images": "images", "masks": "masks"}]
SIZE = (24, 16)  # of the intact pair: width, height


def samples_of(root: Path, **fields: Any) -> list[Sample]:
    params = SourceParams.model_validate({"kind": "pairs", "partitions": ONE_PART, **fields})
    return list(open_source("some", params, raw_root=root, size=64, seed=0).samples())


def refuses(root: Path, file: Path, fault: str, **fields: Any) -> None:
    """The one sample of the source says of ``file`` what is wrong with it, in one line."""
    [sample] = samples_of(root, **fields)
    with pytest.raises(DataError, match=fault) as caught:
        sample.load()
    assert caught.value.subject == str(file)
    assert "\n" not in str(caught.value)
    if file.parent.name == "masks" and "pixels, its image" not in fault:
        with pytest.raises(DataError, match=fault):
            sample.load_mask()


def stored(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


# ---- masks in other pixel formats


def test_palette_mask_gives_its_indices_not_its_colours(root: Path, mask: Path) -> None:
    labels = np.array(stored(mask))
    palette = Image.frombytes("P", SIZE, labels.tobytes())
    palette.putpalette([9, 9, 9, 1, 1, 1] * 128)
    palette.save(mask)
    [sample] = samples_of(root)
    np.testing.assert_array_equal(sample.load()[1], labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_mask_of_equal_channels_is_its_grey_values(mode: str, root: Path, mask: Path) -> None:
    labels = np.array(stored(mask))
    stored(mask).convert(mode).save(mask)
    [sample] = samples_of(root)
    np.testing.assert_array_equal(sample.load()[1], labels)


def test_mask_in_colours_is_refused_with_a_pixel_that_shows_it(root: Path, mask: Path) -> None:
    coloured = Image.new("RGB", SIZE, (1, 1, 1))
    coloured.putpixel((5, 3), (192, 128, 128))
    coloured.save(mask)
    refuses(root, mask, r"in colours \(r,g,b 192,128,128 at x 5, y 3\)")


def test_mask_with_transparent_pixels_is_refused(root: Path, mask: Path) -> None:
    Image.new("RGBA", SIZE, (1, 1, 1, 128)).save(mask)
    refuses(root, mask, "transparent")


def test_16_bit_mask_of_small_values_is_read(root: Path, mask: Path) -> None:
    labels = np.array(stored(mask))
    Image.fromarray(labels.astype(np.uint16) * 200).save(mask)
    assert stored(mask).mode == "I;16"
    [sample] = samples_of(root, human=[200])
    np.testing.assert_array_equal(sample.load()[1], labels)
    assert read_mask(mask).dtype == np.uint8


def test_16_bit_mask_with_a_value_above_255_is_refused_naming_it(root: Path, mask: Path) -> None:
    Image.fromarray(np.full(SIZE[::-1], 300, np.uint16)).save(mask)
    refuses(root, mask, "label 300", human=[1])
    with pytest.raises(DataError, match="label 300, above 255"):
        read_mask(mask)


def test_16_bit_instance_ids_are_all_people(root: Path, mask: Path) -> None:
    labels = np.zeros(SIZE[::-1], np.uint16)
    labels[0], labels[1], labels[2] = 1, 300, 65535
    Image.fromarray(labels).save(mask)
    [sample] = samples_of(root, human="positive", ignore=[65535])
    assert [set(row.tolist()) for row in sample.load()[1][:4]] == [{1}, {1}, {255}, {0}]


def test_16_bit_mask_with_colour_channels_is_refused_because_half_of_it_would_be_lost(root: Path, mask: Path) -> None:
    cv2.imwrite(str(mask), np.ones((*SIZE[::-1], 3), np.uint16))
    refuses(root, mask, "unsupported pixel format RGB, 16 bits")


def test_1_bit_mask_is_0_and_1(root: Path, mask: Path) -> None:
    labels = np.array(stored(mask))
    Image.fromarray(labels.astype(bool)).save(mask)
    assert stored(mask).mode == "1"
    [sample] = samples_of(root, human=[1])
    np.testing.assert_array_equal(sample.load()[1], labels)


def test_mask_in_a_lossy_format_is_refused(root: Path, mask: Path) -> None:
    Image.new("L", SIZE).save(mask, "JPEG")
    refuses(root, mask, "no PNG file")


def test_label_values_that_no_mask_can_hold_are_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match=r"outside 0\.\.65535"):
        samples_of(root, human=[70_000])


def test_label_that_the_dataset_does_not_define_is_named(tmp_path: Path) -> None:
    for folder in ("images/training", "annotations/training"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images/training/a.jpg")
    mask = tmp_path / "annotations/training/a.png"
    for labels in (np.full((4, 4), 200, np.uint8), np.full((4, 4), 3000, np.uint16)):
        Image.fromarray(labels).save(mask)
        [sample] = samples_of(tmp_path, kind="ade20k")
        with pytest.raises(DataError, match=f"label {labels.max()}") as caught:
            sample.load_mask()
        assert caught.value.subject == str(mask)


# ---- orientation


def upright(path: Path, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Write a picture with an EXIF orientation, and tell its stored pixels; PNG keeps them exactly."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG", exif=exif)
    return pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_image_stays_in_stored_order_where_its_mask_fits(
    orientation: int, root: Path, image: Path
) -> None:
    as_stored = upright(image, orientation, SIZE)
    [sample] = samples_of(root)
    np.testing.assert_array_equal(sample.load()[0], as_stored)
    np.testing.assert_array_equal(read_image(image), as_stored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_image_is_turned_where_its_mask_fits_only_then(orientation: int, root: Path, image: Path) -> None:
    upright(image, orientation, SIZE[::-1])
    if orientation < 5:  # these leave width and height as they are
        return refuses(root, root / "masks/a.png", "is 24x16 pixels, its image a.jpg 16x24")
    [sample] = samples_of(root)
    pixels, mask = sample.load()
    np.testing.assert_array_equal(pixels, np.array(ImageOps.exif_transpose(stored(image))))
    assert pixels.shape[:2] == mask.shape
    return None


def test_exif_rotated_square_image_stays_in_stored_order(root: Path, image: Path) -> None:
    as_stored = upright(image, 6, (16, 16))
    Image.new("L", (16, 16)).save(root / "masks/a.png")
    [sample] = samples_of(root)
    np.testing.assert_array_equal(sample.load()[0], as_stored)


def test_damaged_exif_is_no_reason_to_refuse_a_picture(root: Path, image: Path) -> None:
    Image.new("RGB", SIZE).save(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    [sample] = samples_of(root)
    assert sample.load()[0].shape == (*SIZE[::-1], 3)
    Image.new("L", SIZE[::-1]).save(root / "masks/a.png")
    refuses(root, root / "masks/a.png", "is 16x24 pixels, its image a.jpg 24x16")


# ---- JPEGs of every kind


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_greyscale_cmyk_and_progressive_jpegs_become_rgb(mode: str, progressive: bool, root: Path, image: Path) -> None:
    picture = Image.new("RGB", SIZE, (90, 90, 90)).convert(mode)
    picture.save(image, "JPEG", quality=100, progressive=progressive)
    assert stored(image).mode == mode
    assert bool(stored(image).info.get("progressive")) == progressive
    [sample] = samples_of(root)
    pixels = sample.load()[0]
    assert pixels.shape == (*SIZE[::-1], 3)
    assert np.abs(pixels.astype(int) - 90).max() <= 3


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
def test_png_pictures_become_rgb(mode: str, root: Path, image: Path) -> None:
    Image.new("RGB", SIZE, (255, 255, 255)).convert(mode).save(image, "PNG")
    [sample] = samples_of(root)
    assert (sample.load()[0] == 255).all()


def test_16_bit_picture_is_refused(root: Path, image: Path) -> None:
    Image.fromarray(np.full(SIZE[::-1], 300, np.uint16)).save(image, "PNG")
    refuses(root, image, "unsupported pixel format I;16")
