"""Where images come from: known data sets, .npz files, folders of class folders, the wheel.

Each reader gives ``RawData``: every image as 8-bit pixels, in memory or, where a folder holds more
than that has room for, in a file that is mapped. A data set is checked whole before anything is
made of it, and all its faults are told at once. What its headers claim is compared with what there
is before memory is taken for it.
"""

from __future__ import annotations

from compress.data.sources.embedded import embedded_teacher_path, read_embedded
from compress.data.sources.folders import read_folder
from compress.data.sources.idx import DEBIAN_FASHION, FASHION_CLASSES, read_idx
from compress.data.sources.known import TORCHVISION_NAMES, default_root, read_torchvision
from compress.data.sources.npz import read_npz
from compress.data.sources.raw import RawData, measure_normalization

__all__ = [
    "DEBIAN_FASHION",
    "FASHION_CLASSES",
    "TORCHVISION_NAMES",
    "RawData",
    "default_root",
    "embedded_teacher_path",
    "measure_normalization",
    "read_embedded",
    "read_folder",
    "read_idx",
    "read_npz",
    "read_torchvision",
]
