# SPDX-License-Identifier: Apache-2.0
"""Where the files are that are installed beside the Python code: configuration, launch files."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path

__all__ = ["find_share_file", "large_packet_profile", "profile_variable", "share_file"]

_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")


def share_file(name: str) -> Path:
    """The path of a file below ``share/aegnn_ros``, such as ``config/detect.yaml``; see :func:`find_share_file`.

    Raises:
        FileNotFoundError: it is nowhere.
    """
    if (path := find_share_file(name)) is None:
        raise FileNotFoundError(f"{name} of aegnn_ros is in none of {', '.join(map(str, _share_folders()))}")
    return path


def find_share_file(name: str) -> Path | None:
    """The path of a file below ``share/aegnn_ros``, or None.

    It is looked for in the ROS prefixes (``AMENT_PREFIX_PATH``), where pip installs files of an environment, of the
    system and of a user, and in the source tree.
    """
    return next((folder / name for folder in _share_folders() if (folder / name).is_file()), None)


def _share_folders() -> list[Path]:
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    prefixes += [sys.prefix, sysconfig.get_path("data")]
    if site.ENABLE_USER_SITE:
        prefixes.append(site.getuserbase())
    folders = [Path(prefix) / "share" / "aegnn_ros" for prefix in dict.fromkeys(prefixes)]
    return [*folders, Path(__file__).resolve().parents[1]]


def profile_variable() -> str:
    """The environment variable that names Fast DDS's profiles in this distribution."""
    old = os.environ.get("ROS_DISTRO") in _WITH_FAST_DDS_2
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"


def large_packet_profile() -> dict[str, str]:
    """Environment that lets Fast DDS carry event packets near 1 MB, which its defaults lose almost entirely.

    Both the publisher and the node want it, before they start; a profile that the user has set stays.
    """
    if "FASTDDS_DEFAULT_PROFILES_FILE" in os.environ or "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ:
        return {}
    return {profile_variable(): str(share_file("config/fastdds.xml"))}
