# SPDX-License-Identifier: Apache-2.0
"""Which files and folders are bags, by their names: nothing of them is read."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BAG_SUFFIXES",
    "COMPRESSED_SUFFIX",
    "METADATA",
    "ROS1_SUFFIX",
    "is_bag",
    "is_bag_recording",
    "is_ros1_bag",
    "storage_files",
    "storage_suffix",
]

#: A ROS 1 bag is one file.
ROS1_SUFFIX = ".bag"
_STORAGE_SUFFIXES = (".db3", ".mcap")
#: Of bags that are files.
BAG_SUFFIXES = (ROS1_SUFFIX, *_STORAGE_SUFFIXES)
#: Behind the name of a storage file that is compressed as a whole.
COMPRESSED_SUFFIX = ".zstd"
#: The file of a rosbag2 folder that names the others.
METADATA = "metadata.yaml"


def is_bag(path: Path) -> bool:
    """Whether ``path`` is the folder of a rosbag2 recording, with or without its metadata."""
    return path.is_dir() and ((path / METADATA).exists() or bool(storage_files(path)))


def is_bag_recording(path: Path) -> bool:
    """Whether ``path`` is a rosbag2 folder, or by its name one of rosbag2's files or a ROS 1 bag."""
    return path.suffix.lower() in BAG_SUFFIXES or is_bag(path)


def is_ros1_bag(path: Path) -> bool:
    """Whether ``path`` is a ROS 1 bag by its name; a folder is of ROS 2, whatever it is called."""
    return path.suffix.lower() == ROS1_SUFFIX and not path.is_dir()


def storage_files(path: Path) -> list[Path]:
    """The storage files in a folder, compressed or not, by name."""
    return sorted(file for file in path.iterdir() if storage_suffix(file) in _STORAGE_SUFFIXES)


def storage_suffix(path: Path) -> str:
    """The ending of a storage file's name in lower case, without that of its compression."""
    return Path(path.stem if path.suffix == COMPRESSED_SUFFIX else path.name).suffix.lower()
