from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from privseg.benchmark.pictures import (
    FOUND,
    INVENTED,
    MISSED,
    choose_pictures,
    draw_outcome,
    encode_picture,
    labelled_part,
    tint,
)


def row(people, tallest, lowest=None, *, source="a", human_ratio=0.1, pixel_std=10.0):
    return {
        "source": source,
        "is_human": people > 0,
        "people": people,
        "max_component_height": tallest,
        "min_component_height": tallest if lowest is None else lowest,
        "human_ratio": human_ratio,
        "pixel_std": pixel_std,
    }


def test_pictures_are_of_every_kind():
    rows = [
        *[row(1, 60, human_ratio=0.01)] * 20,
        row(3, 300, 20),  # people of different heights
        row(9, 80, 70),  # a crowd
        row(2, 310, 290),  # large people only
        row(4, 90, 60),  # medium
        row(5, 30, 25),  # small
        row(0, 0, pixel_std=50.0),  # nobody, much texture
        row(0, 0, pixel_std=20.0),
    ]
    assert choose_pictures(pd.DataFrame(rows)) == [20, 21, 22, 23, 24, 25]


def test_sources_not_shown_yet_go_first():
    rows = [row(3, 300, 20), row(9, 80, 70), row(4, 80, 70, source="b")]
    assert choose_pictures(pd.DataFrame(rows))[:2] == [0, 2]


def test_a_small_dataset_shows_what_there_is():
    assert choose_pictures(pd.DataFrame([row(0, 0)])) == [0]
    assert sorted(choose_pictures(pd.DataFrame([row(1, 50), row(1, 50), row(0, 0)]))) == [0, 1, 2]


def test_outcome_has_a_colour_each():
    image = np.full((2, 3, 3), 100, np.uint8)
    truth = np.array([[1, 1, 0], [0, 255, 255]], np.uint8)
    prediction = np.array([[True, False, True], [False, True, False]])
    drawn = draw_outcome(image, truth, prediction)
    for place, colour in (((0, 0), FOUND), ((0, 1), MISSED), ((0, 2), INVENTED)):
        assert drawn[place].tolist() == [round(40 + 0.6 * value) for value in colour]
    assert (drawn[1] == 100).all(), "neither right background nor what is not labelled is tinted"
    assert (image == 100).all()


def test_tint_leaves_the_rest():
    image = np.full((4, 4, 3), 100, np.uint8)
    human = np.zeros((4, 4), bool)
    human[0, 0] = True
    assert tint(image, human)[0, 0].tolist() == [193, 124, 40]
    assert (tint(image, human)[~human] == 100).all()


def test_padding_is_cut_away():
    truth = np.full((10, 12), 255, np.uint8)
    assert truth[labelled_part(truth)].shape == (10, 12)
    truth[2:7, 3:12] = 0
    truth[4, 5] = 255
    assert truth[labelled_part(truth)].shape == (5, 9)


def test_a_picture_is_small_and_keeps_its_proportions():
    image = np.zeros((400, 800, 3), np.uint8)
    image[:, :, 0] = 200
    decoded = cv2.imdecode(np.frombuffer(encode_picture(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (160, 320, 3)
    assert decoded[80, 160, 2] > 190, "red stays red"
    assert cv2.imdecode(np.frombuffer(encode_picture(image[:32, :32]), np.uint8), cv2.IMREAD_COLOR).shape == (32, 32, 3)
