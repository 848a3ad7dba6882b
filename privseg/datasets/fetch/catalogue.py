"""What can be fetched: the official archives of every public source, and where the readers look for their contents.

Addresses, sizes and checksums are facts published elsewhere; each entry says where. Two sizes are published rounded
only, and one archive has no published checksum: its entry says so, its first download is remembered, and every later
one must be the same (`privseg.datasets.fetch.download.verify`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "Archive", "Checksum", "Offer", "Piece"]


@dataclass(frozen=True)
class Checksum:
    """A published digest of a whole archive, in hexadecimal."""

    algorithm: Literal["md5", "sha1", "sha256"]
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Attributes:
        name: File name.
        urls: Where it lies, in the order to try: every further one is asked when those before it do not serve it.
        size: Bytes.
        exact: Whether ``size`` is published to the byte; otherwise it is rounded, and the server's own length counts.
        checksum: As published; None where none is.
        unpacked: Bytes that its files may take together; more is taken for a bomb.
        entries: Files and folders that it may hold.
    """

    name: str
    urls: tuple[str, ...]
    size: int
    unpacked: int
    entries: int
    checksum: Checksum | None = None
    exact: bool = True


@dataclass(frozen=True)
class Piece:
    """One folder of an archive and where it belongs.

    Attributes:
        archive: The archive that holds it.
        inside: Its path in the archive.
        folder: Its path below the data folder.
        needs: Folders or files that it must hold, relative to itself.
    """

    archive: Archive
    inside: str
    folder: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """A source that can be fetched.

    Attributes:
        folder: The source's folder below the data folder, which its ``path`` in ``params.yaml`` names.
        homepage: Where its terms are published.
        terms: The terms of use in short.
        pieces: What its folder is made of.
    """

    folder: str
    homepage: str
    terms: str
    pieces: tuple[Piece, ...]


# Size and SHA-256 as in TensorFlow Datasets and Keras' examples; torchvision publishes the MD5
# 6cd6e144f989b92b3379bac3b3de84fd of the same file. The second address is another server of the same group.
_VOC = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    ),
    size=1_999_639_040,
    unpacked=2_000_000_000,
    entries=60_000,
    checksum=Checksum("sha256", "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"),
)

# COCO 2017: sizes and SHA-256 as in TensorFlow Datasets and torchvision's prototypes; GluonCV publishes SHA-1. The
# second address is the bucket behind the first, by TLS.
_COCO_BUCKET = "https://s3.amazonaws.com/images.cocodataset.org"
_TRAIN2017 = Archive(
    "train2017.zip",
    ("http://images.cocodataset.org/zips/train2017.zip", f"{_COCO_BUCKET}/zips/train2017.zip"),
    size=19_336_861_798,
    unpacked=20_500_000_000,
    entries=120_000,
    checksum=Checksum("sha256", "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929"),
)
_VAL2017 = Archive(
    "val2017.zip",
    ("http://images.cocodataset.org/zips/val2017.zip", f"{_COCO_BUCKET}/zips/val2017.zip"),
    size=815_585_330,
    unpacked=900_000_000,
    entries=5_100,
    checksum=Checksum("sha256", "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"),
)
_COCO_ANNOTATIONS = Archive(
    "annotations_trainval2017.zip",
    (
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        f"{_COCO_BUCKET}/annotations/annotations_trainval2017.zip",
    ),
    size=252_907_541,
    unpacked=1_200_000_000,
    entries=100,
    checksum=Checksum("sha256", "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"),
)

# The authors give 659 MB and no checksum, and none was found published elsewhere. Their newer site has TLS, so it is
# asked first; the address in their README has not.
_STUFF_MAPS = Archive(
    "stuffthingmaps_trainval2017.zip",
    (
        "https://calvin-vision.net/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
    ),
    size=691_000_000,
    exact=False,
    unpacked=2_000_000_000,
    entries=260_000,
)

# The size is published rounded (923 MB); SHA-1 as in GluonCV.
_ADE20K = Archive(
    "ADEChallengeData2016.zip",
    (
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    ),
    size=967_000_000,
    exact=False,
    unpacked=1_500_000_000,
    entries=46_000,
    checksum=Checksum("sha1", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7"),
)

_COCO_TERMS = (
    "The annotations are licensed CC BY 4.0. The images belong to their photographers: the Flickr terms of use apply, "
    "and whoever uses them answers for that use."
)

CATALOGUE: Mapping[str, Offer] = {
    "voc": Offer(
        folder="VOCdevkit/VOC2012",
        homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        terms="The images come from Flickr: the Flickr terms of use apply. Cite the PASCAL VOC challenge.",
        pieces=(
            Piece(
                _VOC,
                "VOCdevkit/VOC2012",
                "VOCdevkit/VOC2012",
                ("ImageSets/Segmentation/train.txt", "JPEGImages", "SegmentationClass"),
            ),
        ),
    ),
    "cocostuff164k": Offer(
        folder="cocostuff164k",
        homepage="https://github.com/nightrome/cocostuff",
        terms=f"COCO and COCO-Stuff. {_COCO_TERMS}",
        pieces=(
            Piece(_STUFF_MAPS, "train2017", "cocostuff164k/stuffthingmaps/train2017"),
            Piece(_STUFF_MAPS, "val2017", "cocostuff164k/stuffthingmaps/val2017"),
            Piece(_VAL2017, "val2017", "cocostuff164k/images/val2017"),
            Piece(_TRAIN2017, "train2017", "cocostuff164k/images/train2017"),
        ),
    ),
    "coco_instances": Offer(
        folder="coco2017",
        homepage="https://cocodataset.org/#termsofuse",
        terms=f"COCO 2017. {_COCO_TERMS}",
        pieces=(
            Piece(
                _COCO_ANNOTATIONS,
                "annotations",
                "coco2017/annotations",
                ("instances_train2017.json", "instances_val2017.json"),
            ),
            Piece(_VAL2017, "val2017", "coco2017/val2017"),
            Piece(_TRAIN2017, "train2017", "coco2017/train2017"),
        ),
    ),
    "ade20k": Offer(
        folder="ADEChallengeData2016",
        homepage="https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
        terms="For non-commercial research and education only; MIT CSAIL does not own the copyright of the images.",
        pieces=(
            Piece(
                _ADE20K,
                "ADEChallengeData2016",
                "ADEChallengeData2016",
                ("images/training", "images/validation", "annotations/training", "annotations/validation"),
            ),
        ),
    ),
}
