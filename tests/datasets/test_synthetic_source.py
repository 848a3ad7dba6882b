import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privseg.datasets.sources.synthetic import SyntheticSource
from privseg.params import SourceParams


def source(seed=7, size=64, **params):
    return SyntheticSource("scenes", SourceParams(kind="synthetic", **params), size=size, seed=seed)


def summary(samples):
    return [(sample.name, sample.pool, sample.origin, sample.load.args) for sample in samples]


@given(count=st.integers(4, 60), more=st.integers(1, 60), seed=st.integers(0, 2**31 - 1))
def test_a_greater_count_only_adds_scenes(count, more, seed):
    few = summary(source(seed, count=count).samples())
    many = summary(source(seed, count=count + more).samples())
    assert many[:count] == few
    assert len(many) == count + more


def test_names_sort_and_are_unique():
    names = [sample.name for sample in source(count=120).samples()]
    assert names[17] == "scene_00017"
    assert names == sorted(set(names))


def test_another_seed_gives_other_scenes():
    first, other = (next(iter(source(seed, count=4).samples())).load()[0] for seed in (7, 8))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.2, 60, 140), (1.0, 500, 500)])
def test_test_share(share, low, high):
    pools = [sample.pool for sample in source(count=500, test_share=share).samples()]
    assert low <= pools.count("test") <= high


def test_limit_thins_each_pool_and_keeps_order():
    samples = list(source(count=200, limit=10).samples())
    pools = [sample.pool for sample in samples]
    assert (pools.count("train"), pools.count("test")) == (10, 10)
    names = [sample.name for sample in samples]
    assert names == sorted(names)


def test_samples_cross_process_borders_and_load_at_the_sources_size():
    sample = list(source(count=4, size=96).samples())[2]
    image, mask = pickle.loads(pickle.dumps(sample)).load()  # noqa: S301 - our own bytes
    expected_image, expected_mask = sample.load()
    assert image.shape == (96, 96, 3)
    assert np.array_equal(image, expected_image)
    assert np.array_equal(mask, expected_mask)
