# SPDX-License-Identifier: Apache-2.0
"""Install the packages, and what ROS looks up below `share/` and `lib/`; the static part stands in setup.cfg."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup

# Not the working directory: `colcon build --symlink-install` runs a link to this file elsewhere.
ROOT = Path(__file__).resolve().parent

manifest = ElementTree.parse(ROOT / "package.xml").getroot()
name = manifest.findtext("name")
maintainer = manifest.find("maintainer")


def requirements(file: str) -> list[str]:
    """The requirements in a file in `requirements/`, and in those that it names."""
    found: list[str] = []
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.append(line)
    return found


def files(pattern: str) -> list[str]:
    """Paths of the files that match, relative to this folder."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())


setup(
    name=name,
    version=manifest.findtext("version"),
    description=manifest.findtext("description"),
    maintainer=maintainer.text,
    maintainer_email=maintainer.get("email"),
    license=manifest.findtext("license"),
    license_files=files("LICENSE") if Path("LICENSE").is_file() else [],  # setuptools looks in the working directory
    long_description=(ROOT / "README.md").read_text("utf8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",  # colcon cannot read what setuptools makes of this line in setup.cfg
    install_requires=requirements("node.txt"),
    extras_require={
        extra: requirements(f"{extra}.txt")
        for extra in ("recordings", "evaluation", "tracking", "train", "wandb", "view", "cluster", "cuda", "test")
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{name}"]),
        (f"share/{name}", ["package.xml"]),
        (f"share/{name}/config", files("config/*")),
        (f"share/{name}/launch", files("launch/*.launch.py")),
        # `ros2 run` and launch look for executables here; each starts the console script of its name.
        (f"lib/{name}", files("scripts/ros2_run/*")),
    ],
)
