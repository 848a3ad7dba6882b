"""What the reasons of removal and the suspicions mean, with the thresholds in force, for tables that people read."""

from __future__ import annotations

from privseg.params import Params

__all__ = ["rules", "suspicions"]


def rules(params: Params) -> dict[str, str]:
    """Every reason code with what it removes, in the order in which the pipeline looks."""
    limits = params.cleanse
    return {
        "unreadable": "the image or its label cannot be read, or they do not fit together",
        "too_small": f"shorter side of the original below {limits.min_original_side} pixels",
        "blank": f"grey levels with a standard deviation below {limits.min_pixel_std:g} of 255",
        "too_much_ignore": f"more than {limits.max_ignore_ratio:g} of the picture unlabelled",
        "too_little_human": f"people, but less than {limits.min_human_ratio:g} of the labelled pixels",
        "too_much_human": f"people on more than {limits.max_human_ratio:g} of the labelled pixels",
        "specks": f"people, but even the tallest lower than {limits.min_component_height} pixels",
        "close_up": (
            f"one person on more than {limits.max_component_ratio:g} of the picture or touching more than "
            f"{limits.max_borders_touched} of its borders, or a score below {limits.min_surveillance_score:g}"
        ),
        "duplicate": "image and mask equal another picture's byte for byte",
        "near_duplicate": f"looks like another: at most {limits.near_duplicate_bits} of 64 hash bits differ",
        "surplus_no_human": f"without people, beyond {params.merge.no_human_share:g} per picture with people",
    }


def suspicions(params: Params) -> dict[str, str]:
    """Every code of a suspicion with why a label gets it."""
    limits = params.cleanse
    return {
        "box": f"a large person that fills its bounding box to {limits.suspect_box_fill:g} or more: a drawn rectangle",
        "flat_contour": (
            "outlines where the picture has no edge: grey levels differ by less than "
            f"{limits.suspect_contour_contrast:g} of 255"
        ),
        "fragments": f"more than {limits.suspect_components} pieces",
        "copies_disagree": "looks like another picture, in which markedly more or fewer pixels are human",
    }
