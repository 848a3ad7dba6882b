"""Layers with open sizes answer as those they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privseg.training._mm import MODELS, ISAHead
from privseg.training.heads import OpenSizeISAHead
from privseg.training.losses import PersonLoss
from privseg.training.open_size import OpenAttention, OpenAveragePool, open_sizes

quick = settings(max_examples=30, deadline=None)
sizes = st.integers(1, 40)
same = torch.testing.assert_close


@quick
@given(sizes, sizes, st.integers(1, 8), st.integers(1, 8))
def test_pooling_is_adaptive_average_pooling(height, width, rows, columns):
    x = torch.randn(2, 3, height, width)
    same(OpenAveragePool(rows, columns)(x), nn.AdaptiveAvgPool2d((rows, columns))(x), rtol=1e-4, atol=1e-5)


@quick
@given(sizes, sizes, st.sampled_from([1, 2, 4]))
def test_attention_is_that_of_the_same_weights(queries, keys, heads):
    theirs = nn.MultiheadAttention(8, heads).eval()
    query, key = torch.randn(queries, 2, 8), torch.randn(keys, 2, 8)
    with torch.no_grad():
        same(OpenAttention(theirs)(query, key, key)[0], theirs(query, key, key)[0], rtol=1e-4, atol=1e-5)
    assert OpenAttention(theirs).state_dict().keys() == theirs.state_dict().keys()


@pytest.fixture(scope="module")
def sparse() -> tuple[ISAHead, OpenSizeISAHead]:
    """mmsegmentation's head and ours with the same weights."""
    options = {"in_channels": 4, "channels": 4, "isa_channels": 4, "num_classes": 2, "out_channels": 2}
    options["loss_decode"] = {"type": PersonLoss.__name__}
    theirs, ours = ISAHead(**options).eval(), OpenSizeISAHead(**options).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@quick
@given(sizes, sizes)
def test_sparse_attention_is_mmsegmentation_s(sparse, height, width):
    theirs, ours = sparse
    features = (torch.randn(1, 4, height, width),)
    with torch.no_grad():
        same(ours(features), theirs(features), rtol=1e-4, atol=1e-5)


def test_layers_are_replaced_where_they_are_and_only_those_that_need_it():
    resize = MODELS.build({"type": "mmseg.InterpConv", "in_channels": 3, "out_channels": 3})
    keeps = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(3, 3, 1))
    module = nn.ModuleDict({"resize": resize, "pool": nn.Sequential(nn.AdaptiveAvgPool2d(6)), "keeps": keeps}).eval()
    x, kept = torch.randn(1, 3, 8, 10), list(keeps)
    with torch.no_grad():
        before = module["resize"](x), module["pool"](x)
        open_sizes(module)
        after = module["resize"](x), module["pool"](x)
    same(after, before, rtol=1e-4, atol=1e-5)
    assert isinstance(module["pool"][0], OpenAveragePool)
    assert list(keeps) == kept


@pytest.mark.parametrize("shape", [(64, 64), (32, 96)])
def test_slopes_pass_through(shape: tuple[int, int]):
    x = torch.randn(1, 2, *shape, requires_grad=True)
    (ours,) = torch.autograd.grad(OpenAveragePool(3, 6)(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(nn.AdaptiveAvgPool2d((3, 6))(x).square().sum(), x)
    same(ours, theirs, rtol=1e-4, atol=1e-5)
