# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn``: a thin wrapper over functions that a notebook could call."""

from __future__ import annotations

import argparse
import os
import select
import sys
from pathlib import Path
from typing import Any

from aegnn_core.doctor_command import add_doctor_command
from aegnn_core.extras import missing_package
from aegnn_core.version import __version__

__all__ = ["main"]


def _bag(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.bag_conversion import convert_to_bag
    from aegnn_core.events.reading_options import reading_options

    for recording in arguments.recording:
        bag = convert_to_bag(recording, arguments.output, arguments.storage, **reading_options(arguments))
        classes = f" of the classes {', '.join(bag.classes)}" if bag.classes else ""
        print(
            f"{bag.path}: {bag.events} events of {bag.width} x {bag.height} px in {bag.packets} packets,"
            f" boxes at {bag.labels} times{classes}"
        )


def _parser(doctor_alone: bool) -> argparse.ArgumentParser:
    """The parser of all commands, or of the one that works where packages are missing."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="aegnn", description="Asynchronous, event-based graph neural networks.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    add_doctor_command(commands, formatter)
    if not doctor_alone:
        _add_commands(commands, formatter)
    return parser


def _add_commands(commands: Any, formatter: Any) -> None:
    from aegnn_core.datasets.label_command import add_label_command
    from aegnn_core.datasets.preprocess_command import add_preprocess_command
    from aegnn_core.datasets.simulate_command import add_simulate_command
    from aegnn_core.evaluation.benchmark_command import add_benchmark_command
    from aegnn_core.evaluation.evaluate_command import add_evaluate_command
    from aegnn_core.evaluation.flops_command import add_flops_command
    from aegnn_core.evaluation.replay_command import add_replay_command
    from aegnn_core.events.reading_options import add_reading_options
    from aegnn_core.training.export_command import add_export_command
    from aegnn_core.training.join_command import add_join_command
    from aegnn_core.training.train_command import add_train_command
    from aegnn_core.viewing.view_command import add_view_command

    add_train_command(commands, formatter)
    add_export_command(commands, formatter)
    add_join_command(commands, formatter)
    add_evaluate_command(commands, formatter)
    add_replay_command(commands, formatter)

    bag = commands.add_parser(
        "bag", help="convert recordings to rosbag2 with event packets and labels", formatter_class=formatter
    )
    bag.set_defaults(run=_bag)
    bag.add_argument(
        "recording",
        type=Path,
        nargs="+",
        help="any recording of events, with boxes if of Gen1, 1 Mpx, DSEC-Det, N-Caltech101",
    )
    bag.add_argument("--output", type=Path, default=Path("."), help="folder that gets a bag per recording")
    add_reading_options(bag, "event topic of recordings that are bags with several")
    bag.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bags")
    add_simulate_command(commands, formatter)
    add_label_command(commands, formatter)
    add_view_command(commands, formatter)
    add_preprocess_command(commands, formatter)
    add_flops_command(commands, formatter)
    add_benchmark_command(commands, formatter)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors in the input, a missing package and a lack of memory are one sentence and exit 2.

    Where nobody reads the output any more, as behind ``| head``, it ends without a word, with exit 1.
    """
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            print(end="", flush=True)  # here, not when the process ends, where nothing could catch what it raises
    except OSError as error:  # of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is left
        if isinstance(error, BrokenPipeError):
            return 1
        print(f"aegnn: {error}", file=sys.stderr)
        return 2


def _run(given: list[str]) -> int:
    try:
        parsed = _parser(doctor_alone=given[:1] == ["doctor"]).parse_args(given)
        return parsed.run(parsed) or 0
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aegnn_"):
            raise
        print(f"aegnn: {missing_package(str(error.name))}; aegnn doctor looks at all of them", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise
        print(f"aegnn: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"aegnn: out of memory{f': {error}' if str(error) else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _nobody_reads() -> bool:
    """Whether the pipe that takes the output is closed at its other end; processes have other pipes, too."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return bool(poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
