# SPDX-License-Identifier: Apache-2.0
"""A cluster of machines as an executor, through Dask; needs the extra `cluster`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager

from aegnn_core.extras import missing_package

__all__ = ["LOCAL_CLUSTER", "open_cluster"]

#: The name of a cluster that is started on this machine.
LOCAL_CLUSTER = "local"

#: For processes that share a terminal with the one that started them, which alone handles Ctrl-C.
_LEAVE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextmanager
def open_cluster(address: str, workers: int) -> Iterator[Executor]:
    """An executor on the workers of a Dask cluster; when it is closed it drops tasks that have not started.

    Args:
        address: of the scheduler, such as ``tcp://192.168.0.1:8786``; its workers need this package and see the same
            folders. Or :data:`LOCAL_CLUSTER`.
        workers: processes of a local cluster.

    Raises:
        ValueError: Dask is not installed.
        OSError: no scheduler answers, or its workers end again and again.
    """
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ModuleNotFoundError as error:
        raise ValueError(f"a cluster needs Dask, but {missing_package('distributed')}") from error
    with ExitStack() as stack:
        if address == LOCAL_CLUSTER:
            local = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=max(1, workers),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.ERROR,
                preload=_LEAVE_INTERRUPTS,
            )
            address = stack.enter_context(local).scheduler_address
        client = stack.enter_context(Client(address, set_as_default=False))  # type: ignore[no-untyped-call]
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except KilledWorker as error:
            raise ChildProcessError(f"workers of the cluster keep dying: {error}") from error
        finally:
            executor.shutdown(wait=False)
