"""Tokens: one for each person while followed, new ones afterwards, and a vault that is bounded."""

from __future__ import annotations

import re

import numpy as np
import pytest
from filter_cases import noise_picture, rectangle, walkers

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters import token as token_module
from privseg.privacy.filters.registry import create_method
from privseg.privacy.filters.token import Token, TokenParams


def test_a_token_stays_with_the_person_and_the_vault_knows_when_and_where() -> None:
    method = create_method("token")
    assert isinstance(method, Token)
    for step in range(10):
        covered_copy(noise_picture(), walkers(step), method, camera="door", sequence=5 + step)
    assert len(method.vault) == 2
    for token, entry in method.vault.items():
        assert re.fullmatch("[A-Z2-7]{4}", token)
        assert (entry.camera, entry.first, entry.last) == ("door", 5, 14)
    covered_copy(noise_picture(), walkers(0), method, camera="yard", sequence=15)
    assert len(method.vault) == 4
    assert method.record() is None


def test_tokens_change_with_the_lifetime_and_never_belong_to_two() -> None:
    method = create_method("token", {"lifetime": 5})
    assert isinstance(method, Token)
    for step in range(15):
        covered_copy(noise_picture(), walkers(0), method, sequence=step)
    assert len(method.vault) == 6


def test_the_vault_is_bounded() -> None:
    """A person who stays keeps the token while thousands come and go, and the newest are known."""
    method = create_method("token", {"patience": 1})
    assert isinstance(method, Token)
    picture, frames = noise_picture()[:128, :128], 100
    stays = rectangle(128, 128, 90, 40, 30, 20)
    badges = set()
    for step in range(frames):
        crowd = np.zeros((128, 128), np.bool_)
        for place in range(48):  # too far from where others just were to be taken for them
            top, left = 10 * (place // 12) + 40 * (step % 2), 10 * (place % 12)
            crowd[top : top + 4, left : left + 4] = True
        drawn = covered_copy(picture, crowd | stays, method, camera="door", sequence=step)
        badges.add(drawn[stays].tobytes())
    assert frames * 49 > 4096 + 49  # more tokens than the vault has room for were drawn
    assert len(method.vault) == 4096
    assert len(badges) == 1
    assert len(method._tokens) <= 2 * 49  # nor does anything else grow
    (token, entry), *_ = [item for item in method.vault.items() if item[1].last - item[1].first > 1]
    assert (entry.first, entry.last) == (0, frames - 1)
    assert list(method.vault)[-49:].count(token) == 1  # the least recently drawn ones went
    assert min(other.last for other in method.vault.values()) > 10


def test_a_person_is_followed_however_short_the_patience_is() -> None:
    shortest = TokenParams.model_json_schema()["properties"]["patience"]["minimum"]
    method = create_method("token", {"patience": shortest})
    assert isinstance(method, Token)
    for step in range(5):
        covered_copy(noise_picture(), walkers(step), method, sequence=step)
    assert len(method.vault) == 2


def test_two_people_never_have_one_token_though_chance_would_give_it_to_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_module, "_text", lambda digest: "ABC"[digest[0] % 3] * 4)
    for _ in range(20):
        method = create_method("token")
        assert isinstance(method, Token)
        covered_copy(noise_picture(), walkers(), method)
        assert len(method.vault) == 2


@pytest.mark.parametrize("size", [0.09, 0.3])
def test_a_badge_is_drawn_on_the_shape_and_lies_inside_the_person(size: float) -> None:
    mask = walkers()
    drawn = covered_copy(noise_picture(), mask, create_method("token", {"color": "#404040", "size": size}))
    plain = (drawn == 0x40).all(-1)
    badge = mask & ~plain
    for left in (40, 150):
        card = badge[:, left : left + 51]
        assert card.sum() > 100
        assert np.flatnonzero(card.any(0))[0] > 0  # neither side is cut off
        assert np.flatnonzero(card.any(0))[-1] < 50
