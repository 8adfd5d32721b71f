# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn preprocess``."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from aegnn_core.datasets.dataset_format import SPLITS
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.event_dataset import dataset_names, open_dataset
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.events.letterbox import read_size
from aegnn_core.graph.options import add_graph_options, graph_from_options, graph_options
from aegnn_core.option_types import refuse_unused

__all__ = ["add_preprocess_command"]


def add_preprocess_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "preprocess",
        help="build the graphs of a data set once and store them",
        description="Build the graphs of a data set once and store them, so that training only reads them. The same"
        " command goes on where it was interrupted. Graphs of another rule, or of a recording that has changed since,"
        " are never taken for these.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=partial(_run, parser))
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(dataset_names())} below AEGNN_DATA_DIR")
    parser.add_argument("--split", nargs="+", choices=("all", *SPLITS), default=["all"], help="one, several or all")
    parser.add_argument("--task", default="recognition", choices=("recognition", "detection"), help="what to learn")
    parser.add_argument(
        "--sensor",
        metavar="WxH",
        default=None,
        help="sensor of the model, such as 160x120, where the camera has more pixels; the camera's if None",
    )
    parser.add_argument(
        "--downsampling", choices=DOWNSAMPLING, default=DOWNSAMPLING[0], help="how events come to the model's sensor"
    )
    parser.add_argument("--topic", default=None, help="event topic of bags that have several")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="processes, 0 for this one only")
    parser.add_argument(
        "--cluster",
        default=None,
        help="address of a Dask scheduler whose workers do it, or local for one of --num-workers processes; needs the"
        " extra cluster",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="folder for the graphs; by default the folder processed in the data set's",
    )
    defaults = "; ".join(f"for {task}: {' '.join(graph_options(rule))}" for task, rule in DEFAULT_GRAPHS.items())
    add_graph_options(parser, f"by default, {defaults}")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.cluster import LOCAL_CLUSTER
    from aegnn_core.datasets.preprocessing import preprocess

    if arguments.num_workers < 0:
        raise ValueError(f"--num-workers must be at least 0, found {arguments.num_workers}")
    if arguments.sensor is None:
        refuse_unused(parser, arguments, ["downsampling"], "without --sensor")
    if arguments.cluster not in (None, LOCAL_CLUSTER):
        refuse_unused(parser, arguments, ["num_workers"], f"on the cluster {arguments.cluster}, which has its own")
    graph = graph_from_options(arguments, DEFAULT_GRAPHS[arguments.task])
    splits = SPLITS if "all" in arguments.split else arguments.split
    sensor = None if arguments.sensor is None else read_size(arguments.sensor)
    way: dict[str, Any] = {"sensor": sensor, "downsampling": arguments.downsampling, "topic": arguments.topic}
    datasets, unreadable = [], []
    for split in splits:
        try:
            datasets.append(open_dataset(arguments.dataset, split, task=arguments.task, **way))
        except EventFormatError as error:  # of bags, which are looked into; the other splits are not kept waiting
            unreadable.append(str(error))
    for dataset in datasets:
        start = perf_counter()
        try:
            done = preprocess(
                dataset,
                graph,
                arguments.task,
                arguments.output,
                workers=arguments.num_workers,
                cluster=arguments.cluster,
            )
        except KeyboardInterrupt:
            print("aegnn: interrupted; what is stored stays, the same command goes on from there", file=sys.stderr)
            raise
        except EventFormatError as error:
            unreadable.append(str(error))
            continue
        print(
            f"{done.folder / dataset.split}: {done.recordings} recordings, {done.bytes / 1e6:.1f} MB;"
            f" built now {done.built} of them with {done.events} events in {perf_counter() - start:.1f} s"
        )
    if unreadable:
        raise EventFormatError("; ".join(unreadable))
