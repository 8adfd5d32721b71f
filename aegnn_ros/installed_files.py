# SPDX-License-Identifier: Apache-2.0
"""Where the files are that are installed beside the Python code: configuration, launch files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["large_packet_profile", "profile_variable", "share_file"]

_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")


def share_file(name: str) -> Path:
    """The path of a file below ``share/aegnn_ros``, such as ``config/detect.yaml``.

    It is looked for in the ROS prefixes (``AMENT_PREFIX_PATH``), in the Python environment and in the source tree.

    Raises:
        FileNotFoundError: it is in none of them.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] + [Path(sys.prefix)]
    folders = [prefix / "share" / "aegnn_ros" for prefix in prefixes] + [Path(__file__).resolve().parents[1]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} of aegnn_ros is in none of {', '.join(map(str, folders))}")


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
