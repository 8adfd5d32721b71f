# SPDX-License-Identifier: Apache-2.0
"""The packages that only a part of this one needs, and what to do where one of them is missing.

A live model runs with ``requirements/core.txt``. What the parts around it need beside that are extras.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EXTRAS", "missing_package", "naming_extras"]

#: The extra (and file in ``requirements/``) that brings each package which is not the core's.
EXTRAS = {
    "PIL": "evaluation",
    "aedat": "recordings",
    "av": "view",
    "backports": "recordings",
    "distributed": "cluster",
    "edgefirst": "tracking",
    "h5py": "recordings",
    "hdf5plugin": "recordings",
    "lightning": "train",
    "matplotlib": "evaluation",
    "pycocotools": "evaluation",
    "rerun": "view",
    "rich": "evaluation",
    "rosbags": "recordings",
    "tensorboard": "train",
    "triton": "cuda",
    "wandb": "wandb",
}


def missing_package(module: str, extra: str | None = None) -> str:
    """A sentence that says that a package is missing, and how to install it.

    Args:
        module: what could not be imported.
        extra: that has it and all else that is needed with it; by default that of :data:`EXTRAS`.
    """
    package = module.partition(".")[0]
    extra = extra or EXTRAS.get(package)
    if extra is None:
        return f"the Python package {package} is missing: pip install -r requirements/runtime.txt"
    return (
        f"the Python package {package} is missing: pip install 'aegnn_ros[{extra}]', or in the source tree"
        f" pip install -r requirements/{extra}.txt"
    )


@contextmanager
def naming_extras(extra: str | None = None) -> Iterator[None]:
    """Within it, an import that fails for a package of an extra says so in the words of :func:`missing_package`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        raise ModuleNotFoundError(missing_package(str(error.name), extra), name=error.name) from error
