import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.sources._synthetic_body import Stance, make_body, random_look
from privseg.datasets.sources._synthetic_camera import Camera
from privseg.datasets.sources._synthetic_people import paint_person
from privseg.datasets.sources._synthetic_stage import Sun
from privseg.datasets.sources.synthetic import render_layers, render_scene

SEEDS = range(24)


def test_same_seed_gives_the_same_pixels_and_another_seed_others():
    image, mask = render_scene(5, height=160, width=192)
    again, mask_again = render_scene(5, height=160, width=192)
    other, _ = render_scene(6, height=160, width=192)
    assert np.array_equal(image, again)
    assert np.array_equal(mask, mask_again)
    assert np.abs(image.astype(int) - other).mean() > 5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), height=st.integers(33, 200), width=st.integers(33, 200))
def test_every_scene_has_a_picture_and_a_binary_mask(seed, height, width):
    image, mask = render_scene(seed, height=height, width=width)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_exactly_where_people_were_painted(seed):
    """Over black and over white, a painted pixel looks the same and every other one does not."""
    size = {"height": 256, "width": 320}
    black = render_layers(seed, **size, backdrop=np.zeros((256, 320, 3), np.uint8))
    white = render_layers(seed, **size, backdrop=np.full((256, 320, 3), 255, np.uint8))
    painted = (black.image == white.image).all(axis=2)
    assert np.array_equal(painted, black.mask.astype(bool))
    assert np.array_equal(black.mask, white.mask)


@pytest.mark.parametrize("seed", SEEDS)
def test_people_change_the_place_only_under_their_paint_and_shadows(seed):
    layers = render_layers(seed, height=256, width=256)
    changed = (layers.image != layers.background).any(axis=2)
    assert not (changed & ~(layers.mask.astype(bool) | layers.shadow)).any()
    if layers.mask.any():  # clothes may by chance have the colour of the wall behind
        assert changed[layers.mask == 1].mean() > 0.95


def test_camera_effects_change_the_picture_and_never_the_mask():
    for seed in range(6):
        layers = render_layers(seed, height=200, width=200)
        image, mask = render_scene(seed, height=200, width=200)
        assert np.array_equal(mask, layers.mask)
        assert not np.array_equal(image, layers.image)


def test_about_a_fifth_of_the_scenes_is_without_people_and_sizes_span_small_to_large():
    batch = [render_layers(seed, height=256, width=256) for seed in range(60)]
    empty = [layers for layers in batch if not layers.heights]
    assert 4 <= len(empty) <= 24
    for layers in empty:
        assert not layers.mask.any()
        assert np.array_equal(layers.image, layers.background)
    heights = 2 * np.array([height for layers in batch for height in layers.heights])  # as in a scene of 512
    assert np.percentile(heights, 5) < 30
    assert np.percentile(heights, 90) > 150
    assert 0.01 < np.mean([layers.mask.mean() for layers in batch if layers.heights]) < 0.2


def test_what_stands_nearer_hides_exactly_its_pixels():
    camera, sun = Camera(200, 200, elevation=2.5, pitch=0.25, focal=300), Sun(0.5, 0.7, -0.5, 0.4)
    look = random_look(np.random.default_rng(3))
    body = make_body(look, Stance(x=0, z=5, heading=3))

    def seen(surface):
        image, mask = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
        paint_person(image, mask, surface, camera, sun, look, body)
        return image, mask

    open_image, open_mask = seen(np.full((200, 200), np.inf, np.float32))
    surface = np.full((200, 200), np.inf, np.float32)
    surface[:, 100:] = 3.0
    surface[:90, :100] = 9.0  # beyond the person: hides nothing
    image, mask = seen(surface)
    assert open_mask.sum() > 400
    assert np.array_equal(mask[:, :100], open_mask[:, :100])
    assert np.array_equal(image[:, :100], open_image[:, :100])
    assert open_mask[:, 100:].any()
    assert not mask[:, 100:].any()
    assert not image[:, 100:].any()


def test_a_fallen_body_lies_on_the_ground_and_a_seated_one_is_lower():
    look = random_look(np.random.default_rng(1))
    stances = {name: Stance(0, 6, 1.0, **{name: 1.0}) for name in ("sit", "fall")}
    standing = make_body(look, Stance(0, 6, 1.0))
    top = {name: make_body(look, stance).centres[:, 1].max() for name, stance in stances.items()}
    assert abs(standing.centres[:, 1].max() - look.tall) < 0.12 * look.tall
    assert top["sit"] < 0.85 * look.tall
    assert top["fall"] < 0.3 * look.tall
    for stance in (Stance(0, 6, 1.0), *stances.values()):
        assert (make_body(look, stance).centres[:, 1] > 0).all()
