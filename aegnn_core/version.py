# SPDX-License-Identifier: Apache-2.0
"""The version of the package, whose one source is the manifest ``package.xml``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["__version__"]

_PACKAGE = "aegnn_ros"
_MANIFEST = Path(__file__).resolve().parents[1] / "package.xml"


def _read_version() -> str:
    """From the manifest beside a checkout's packages, else from what setup.py has made of it in an installation."""
    if _MANIFEST.is_file():
        return ElementTree.parse(_MANIFEST).getroot().findtext("version", "")
    return version(_PACKAGE)


#: Such as ``1.0.0``, see https://semver.org.
__version__ = _read_version()
