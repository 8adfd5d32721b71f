# SPDX-License-Identifier: Apache-2.0
"""What the package needs, what of it this machine has, and how to get the rest.

Nothing but the standard library is imported before it is known to be there: this has to work where nothing else does.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from aegnn_core.cores import usable_cores
from aegnn_core.version import __version__

__all__ = ["Finding", "diagnose", "processor", "report"]

_DISTRIBUTION = "aegnn_ros"
#: What the packages of an extra are for; where one needs those of another, that stands before it.
_EXTRAS = {
    "recordings": "bags, AEDAT4 and HDF5 files",
    "evaluation": "figures, pictures and reports",
    "tracking": "the node's parameter tracking",
    "train": "aegnn train",
    "view": "the window and mp4 videos of aegnn view",
    "cluster": "aegnn preprocess --cluster",
    "wandb": "aegnn train --logger wandb",
    "cuda": "the engine cuda, on a CUDA device",
}
#: Message packages that the node imports.
_MESSAGES = (
    "builtin_interfaces",
    "diagnostic_msgs",
    "event_camera_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "vision_msgs",
    "visualization_msgs",
)
#: Of the node, a camera driver and one process more, with the profile config/fastdds.xml [bytes].
_SHARED_MEMORY = 3 * (64 << 20)
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:[^;]*>=\s*(?P<least>[\d.]+))?"
    r"(?:.*?python_version\s*<\s*[\"'](?P<before>[\d.]+)[\"'])?(?:.*?extra\s*==\s*[\"'](?P<extra>\w+)[\"'])?"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        part: what it belongs to.
        name: what was looked for.
        state: ``"ok"``; ``"missing"``, which has to be put right; or ``"optional"``, which only some commands need.
        found: what is there.
        remedy: what to do, where something is missing.
    """

    part: str
    name: str
    state: str
    found: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Look at everything; what fails to answer is a finding too."""
    findings: list[Finding] = []
    for part, look in _PARTS.items():
        try:
            findings += look()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            findings.append(Finding(part, "this part", "missing", reason, "please report this as a fault"))
    return findings


def report(findings: Iterable[Finding]) -> str:
    """The findings as lines of text."""
    lines, part = [], ""
    for finding in findings:
        if finding.part != part:
            part = finding.part
            lines.append(f"{part}:")
        mark = "" if finding.state == "ok" else f" [{finding.state}]"
        lines.append(f"  {finding.name}: {finding.found}{mark}")
        if finding.remedy:
            lines.append(f"    -> {finding.remedy}")
    return "\n".join(lines)


def processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _machine() -> Iterator[Finding]:
    def here(name: str, found: object) -> Finding:
        return Finding("machine", name, "ok", str(found))

    yield here("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield here("distribution", _distribution())
    yield here("processor", processor())
    yield here("cores", f"{usable_cores()} usable of {os.cpu_count()}")
    if hasattr(os, "sysconf"):
        yield here("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB")


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _packages() -> Iterator[Finding]:
    yield Finding("packages", "Python", "ok", f"{platform.python_version()} ({sys.executable})")
    try:
        lines = requires(_DISTRIBUTION) or []
        yield Finding("packages", _DISTRIBUTION, "ok", f"{__version__} ({Path(__file__).parent})")
    except PackageNotFoundError:
        folder = Path(__file__).parents[1]
        yield Finding("packages", _DISTRIBUTION, "ok", f"{__version__}, not installed, run from {folder}")
        lines = _source_requirements(folder)
    absent: dict[str, list[str]] = {}
    known: set[str] = set()
    for line in lines:
        needed = _REQUIREMENT.match(line)
        if needed is None or (needed["before"] and _numbers(needed["before"]) <= sys.version_info[:2]):
            continue
        extra, name, least = needed["extra"], needed["name"], needed["least"] or "0"
        if name in known or (extra and extra not in _EXTRAS):
            continue
        known.add(name)
        found = _installed(name)
        if extra is None:
            yield _package(name, found, least)
        elif found is None or _numbers(found) < _numbers(least):
            absent.setdefault(extra, []).append(f"{name}>={least}")
        else:
            yield Finding("packages", name, "ok", found)
    for extra, names in absent.items():
        remedy = "pip install " + " ".join(f"'{name}'" for name in names)
        yield Finding("packages", f"for {_EXTRAS[extra]}", "optional", "not installed", remedy)


def _source_requirements(folder: Path) -> list[str]:
    """The requirements of a source tree that is not installed, written as an installation has them."""
    lines = []
    for purpose in ("core", "node", *_EXTRAS):
        file = folder / "requirements" / f"{purpose}.txt"
        for line in file.read_text("utf8").splitlines() if file.is_file() else ():
            if line and not line.startswith(("#", "-r ")):
                lines.append(f'{line}; extra == "{purpose}"' if purpose in _EXTRAS else line)
    return lines


def _package(name: str, found: str | None, least: str) -> Finding:
    if found is None:
        return Finding("packages", name, "missing", "not installed", f"pip install '{name}>={least}'")
    if _numbers(found) < _numbers(least):
        return Finding("packages", name, "missing", f"{found}, too old", f"pip install --upgrade '{name}>={least}'")
    return Finding("packages", name, "ok", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """A version's release as numbers: ``2.13.0+cpu`` is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _devices() -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield Finding(
            "devices", "torch", "missing", "not installed", "install the build of torch for your CUDA, or none"
        )
        return
    try:
        import torch
    except Exception as error:  # missing libraries: OSError, ImportError and others
        remedy = "install a build of torch that fits this machine"
        yield Finding("devices", "torch", "missing", f"does not load: {error}", remedy)
        return
    limits = [
        f"{name}={os.environ[name]}"
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "AEGNN_THREADS")
        if name in os.environ
    ]
    yield Finding("devices", "cpu", "ok", ", ".join([f"{torch.get_num_threads()} threads of torch", *limits]))
    if torch.version.cuda is None:
        yield Finding("devices", "cuda", "optional", f"torch {torch.__version__} is a build without CUDA")
    elif not torch.cuda.is_available():
        yield Finding("devices", "cuda", "optional", f"torch is built for CUDA {torch.version.cuda}, no device answers")
    else:
        for number in range(torch.cuda.device_count()):
            yield Finding("devices", f"cuda:{number}", "ok", torch.cuda.get_device_name(number))


def _models() -> Iterator[Finding]:
    try:
        from aegnn_core.nn.checkpoint import load_model, packaged_models
    except (ImportError, OSError) as error:  # a package is missing, or a library that it wants
        remedy = "put the packages right first"
        yield Finding("models", "packaged models", "missing", f"cannot be loaded: {error}", remedy)
        return

    names = packaged_models()
    if not names:
        remedy = "install the package again: its folder aegnn_core/weights is empty"
        yield Finding("models", "packaged models", "missing", "none", remedy)
    for name in names:
        try:
            model = load_model(name)
        except ValueError as error:
            yield Finding("models", name, "missing", str(error), "install the package again")
        else:
            size = f"{model.width} x {model.height} px"
            yield Finding("models", name, "ok", f"{model.architecture['name']}, {model.task}, {size}")
    for variable, meaning in (("AEGNN_DATA_DIR", "data sets"), ("AEGNN_LOG_DIR", "logs")):
        folder = os.environ.get(variable)
        if folder and not Path(folder).is_dir():
            yield Finding(
                "models", variable, "optional", f"{folder} is no folder", f"set it to the folder of {meaning}"
            )
        else:
            yield Finding("models", variable, "ok", folder or "not set")


def _ros() -> Iterator[Finding]:
    if find_spec("rclpy") is None:
        remedy = "for the node: source /opt/ros/<distribution>/setup.bash, or make setup in the source tree"
        yield Finding("ROS 2", "rclpy", "optional", "not found", remedy)
        return
    distribution = os.environ.get("ROS_DISTRO")
    yield Finding("ROS 2", "rclpy", "ok", f"found, ROS_DISTRO {distribution or 'not set'}")
    absent = [name for name in _MESSAGES if find_spec(name) is None]
    if absent:
        prefix = f"ros-{distribution or '<distribution>'}-"
        names = " ".join(prefix + name.replace("_", "-") for name in absent)
        yield Finding("ROS 2", "messages", "missing", f"no {', '.join(absent)}", f"sudo apt install {names}")
    else:
        yield Finding("ROS 2", "messages", "ok", f"all {len(_MESSAGES)} packages")
    yield _middleware()
    for variable in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_DISCOVERY_SERVER"):
        if variable in os.environ:
            yield Finding("ROS 2", variable, "ok", os.environ[variable])
    yield _shared_memory()


def _middleware() -> Finding:
    """The RMW that is asked for, and those that are installed."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    index = Path("share", "ament_index", "resource_index", "rmw_typesupport")
    folders = [prefix / index for prefix in (*prefixes, Path(sys.prefix)) if (prefix / index).is_dir()]
    known = sorted({file.name for folder in folders for file in folder.iterdir()} - {"rmw_implementation"})
    asked = os.environ.get("RMW_IMPLEMENTATION")
    found = f"{asked or 'the default'}; installed: {', '.join(known) or 'none found'}"
    if asked and known and asked not in known:
        return Finding("ROS 2", "RMW", "missing", found, f"install {asked}, or unset RMW_IMPLEMENTATION")
    return Finding("ROS 2", "RMW", "ok", found)


def _shared_memory() -> Finding:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError as error:
        return Finding("ROS 2", "shared memory", "optional", f"{error}; packets go through the network stack")
    profile = next((os.environ[v] for v in _PROFILE_VARIABLES if v in os.environ), None)
    found = (
        f"/dev/shm has {usage.free >> 20} of {usage.total >> 20} MiB free; profile of Fast DDS: {profile or 'not set'}"
    )
    if profile and not Path(profile).is_file():
        return Finding(
            "ROS 2", "shared memory", "missing", found, f"{profile} is no file: set it to config/fastdds.xml"
        )
    if usage.free < _SHARED_MEMORY:
        remedy = f"large packets want {_SHARED_MEMORY >> 20} MiB: in a container, start it with --shm-size=512m"
        return Finding("ROS 2", "shared memory", "optional", found, remedy)
    return Finding("ROS 2", "shared memory", "ok", found)


_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")

_PARTS: dict[str, Callable[[], Iterable[Finding]]] = {
    "machine": _machine,
    "packages": _packages,
    "devices": _devices,
    "models": _models,
    "ROS 2": _ros,
}
