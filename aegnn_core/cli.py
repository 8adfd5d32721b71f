"""The command ``aegnn``: a thin wrapper over functions that a notebook could call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aegnn_core.datasets.preprocess_command import add_preprocess_command
from aegnn_core.evaluation.evaluate_command import add_evaluate_command
from aegnn_core.evaluation.flops_command import add_flops_command
from aegnn_core.evaluation.replay_command import add_replay_command
from aegnn_core.training.export_command import add_export_command
from aegnn_core.training.train_command import add_train_command
from aegnn_core.version import __version__

__all__ = ["main"]


def _bag(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.bag_conversion import convert_to_bag

    for recording in arguments.recording:
        bag = convert_to_bag(recording, arguments.output, arguments.storage, arguments.topic)
        print(f"{bag.path}: {bag.events} events in {bag.packets} packets, boxes at {bag.labels} times")


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="aegnn", description="Asynchronous, event-based graph neural networks.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    add_train_command(commands, formatter)
    add_export_command(commands, formatter)
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
    bag.add_argument("--topic", default=None, help="event topic of recordings that are bags with several")
    bag.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bags")
    add_preprocess_command(commands, formatter)
    add_flops_command(commands, formatter)
    return parser


#: The purpose, in requirements/ and as an extra, of packages that not everybody has; runtime.txt has all others.
_PURPOSES = {"lightning": "train", "tensorboard": "train", "wandb": "wandb", "distributed": "cluster"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors in the input, and a missing package, are one sentence and exit status 2."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"aegnn: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing == "aegnn_core":
            raise
        purpose = _PURPOSES.get(missing, "runtime")
        print(
            f"aegnn: this command needs the Python package {missing}: pip install -r requirements/{purpose}.txt",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
