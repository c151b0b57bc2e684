"""Flips and crops against NumPy."""

import numpy as np
import pytest

from tfprune.data import augment

IMAGES = np.random.default_rng(0).integers(1, 256, (64, 7, 6, 3), dtype=np.uint8)
SEED = np.array([1, 2])


def shifts(image, pad):
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width = image.shape[:2]
    return {
        (dy, dx): padded[dy : dy + height, dx : dx + width]
        for dy in range(2 * pad + 1)
        for dx in range(2 * pad + 1)
    }


def test_flip_mirrors_about_half():
    flipped = augment.get("flip")(IMAGES, SEED).numpy()
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, IMAGES, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize(("spec", "pad"), [("crop", 4), ("crop(pad=2)", 2)])
def test_crop_shifts_every_image_by_its_own_offset(spec, pad):
    cropped = augment.get(spec)(IMAGES, SEED).numpy()
    assert cropped.dtype == np.uint8
    found = []
    for image, result in zip(IMAGES, cropped, strict=True):
        matches = [s for s, x in shifts(image, pad).items() if np.array_equal(x, result)]
        assert len(matches) == 1
        found += matches
    offsets = np.array(found)
    assert offsets.min() == 0
    assert offsets.max() == 2 * pad
    assert len({*found}) > 15


def test_flip_crop_does_both():
    results = augment.get("flip_crop(pad=1)")(IMAGES, SEED).numpy()
    mirrored = 0
    for image, result in zip(IMAGES, results, strict=True):
        kept = any(np.array_equal(x, result) for x in shifts(image, 1).values())
        mirror = any(np.array_equal(x, result) for x in shifts(image[:, ::-1], 1).values())
        assert kept != mirror
        mirrored += mirror
    assert 16 < mirrored < 48


def test_the_seed_decides():
    crop = augment.get("flip_crop")
    np.testing.assert_array_equal(crop(IMAGES, SEED), crop(IMAGES, SEED))
    assert not np.array_equal(crop(IMAGES, SEED), crop(IMAGES, SEED + 1))


def test_none_is_nothing():
    assert augment.get("none") is None
