"""The command ``aegnn``: a thin wrapper over functions that a notebook could call."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from aegnn_core.datasets.preprocess_command import add_preprocess_command
from aegnn_core.evaluation.evaluate_command import add_evaluate_command
from aegnn_core.evaluation.flops_command import add_flops_command
from aegnn_core.evaluation.replay_command import add_replay_command

__all__ = ["main"]


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.training.train import train

    # The processes that simulate need cores too.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - arguments.num_workers))
    train(
        arguments.network,
        task=arguments.task,
        dataset=arguments.dataset,
        output=arguments.output,
        dim=arguments.dim,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        workers=arguments.num_workers,
        event_layers=arguments.event_layers,
        recordings=arguments.recordings,
        device="cpu" if arguments.gpu is None else f"cuda:{arguments.gpu}",
    )


def _bag(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.bag_conversion import convert_to_bag

    for recording in arguments.recording:
        bag = convert_to_bag(recording, arguments.output, arguments.storage)
        print(f"{bag.path}: {bag.events} events in {bag.packets} packets, boxes at {bag.labels} times")


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="aegnn", description="Asynchronous, event-based graph neural networks.")
    commands = parser.add_subparsers(title="commands", required=True)

    train = commands.add_parser("train", help="train a network", formatter_class=formatter)
    train.set_defaults(run=_train)
    train.add_argument("network", help="graph_res, graph_wen or graph_grid")
    train.add_argument("--task", required=True, choices=("recognition", "detection"), help="what to learn")
    train.add_argument(
        "--dataset",
        default="simulated",
        help="simulated, or for recognition ncars, nmnist, ncaltech101 below AEGNN_DATA_DIR",
    )
    train.add_argument("--output", type=Path, required=True, help="model file to write (.safetensors)")
    train.add_argument("--steps", type=int, default=4000, help="optimiser steps")
    train.add_argument("--batch-size", type=int, default=16, help="samples per step")
    train.add_argument("--learning-rate", type=float, default=4e-3, help="highest learning rate")
    train.add_argument("--dim", type=int, default=3, choices=(2, 3), help="components of the edge attributes")
    train.add_argument("--seed", type=int, default=1, help="of weights and samples")
    train.add_argument("--num-workers", type=int, default=1, help="processes that simulate or read")
    train.add_argument("--event-layers", default=None, help="model whose layers on events to take over")
    train.add_argument(
        "--recordings", type=int, default=None, help="learn behind --event-layers from so many, computed once"
    )
    train.add_argument("--gpu", type=int, default=None, help="number of the CUDA device, the CPU if not given")

    add_evaluate_command(commands, formatter)
    add_replay_command(commands, formatter)

    bag = commands.add_parser(
        "bag", help="convert recordings to rosbag2 with event packets and labels", formatter_class=formatter
    )
    bag.set_defaults(run=_bag)
    bag.add_argument(
        "recording", type=Path, nargs="+", help="any recording of events, with boxes if of Gen1, N-Caltech101"
    )
    bag.add_argument("--output", type=Path, default=Path("."), help="folder that gets a bag per recording")
    bag.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bags")
    add_preprocess_command(commands, formatter)
    add_flops_command(commands, formatter)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors in the input are one sentence and exit status 2."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"aegnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
