# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn train``."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.graph.options import add_graph_options, graph_from_options
from aegnn_core.nn.networks import NETWORKS
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.registry import Registry, is_path, trusts
from aegnn_core.training.settings import TrainSettings, configurations, declared, read_settings, read_value

__all__ = ["add_train_command"]

#: The settings that may name code, and where it is kept.
_REGISTRIES: dict[str, Registry[Any]] = {"network": NETWORKS, "dataset": FORMATS}


def add_train_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and write a model file. An option overrides the configuration, which overrides the"
        " default. The log, the checkpoints and what is needed to go on after an interruption lie below AEGNN_LOG_DIR"
        " (logs).",
        formatter_class=formatter,
    )
    parser.set_defaults(run=_run)
    # What is not given must not override a configuration, so no option has a default; the help says it.
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}
    for item in declared():
        choices = item.metadata["choices"]
        meaning = item.metadata["meaning"]
        if item.name == "network":
            parser.add_argument("network", nargs="?", help=f"{meaning}; needed unless --config says it", **unset)
            continue
        if item.default is MISSING:
            meaning += " (needed unless --config says it)"
        elif item.default is not None and item.default is not False:
            meaning += f" (default: {item.default})"
        flag = "--" + item.name.replace("_", "-")
        if item.metadata["kind"].type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=meaning, **unset)
        else:
            parser.add_argument(flag, type=item.metadata["kind"].type, choices=choices or None, help=meaning, **unset)
    parser.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="option of the network, its value as in YAML, such as least_ages=[10000,20000]; may be repeated",
        **unset,
    )
    parser.add_argument(
        "--config",
        help=f"settings from a YAML file, or one of {', '.join(configurations())}",
        **unset,
    )
    parser.add_argument(
        "--output", type=Path, help="model file to write (.safetensors); by default in the folder of the run", **unset
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="resume from the last checkpoint of a run's folder, by default the last run that --output or the network,"
        " data set and task name",
        **unset,
    )
    add_trust_option(parser, "--config or --resume")
    add_graph_options(parser, "by default, that of the configuration, or what suits data set and task")


def _run(arguments: argparse.Namespace) -> None:
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from aegnn_core.training.runs.interruption import TrainingStopped
    from aegnn_core.training.runs.run_folder import check_same_run, find_run, new_run, read_run, removed_if_unused
    from aegnn_core.training.train import train

    # Silences Lightning's notices about unused devices and products; warnings and errors stay.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    output, resume = (getattr(arguments, name, None) for name in ("output", "resume"))
    given = read_settings(arguments.config) if hasattr(arguments, "config") else {}
    given |= {item.name: getattr(arguments, item.name) for item in declared() if hasattr(arguments, item.name)}
    if hasattr(arguments, "option"):
        given["options"] = {**given.get("options", {}), **_options(arguments.option)}
    if isinstance(resume, str):
        run = Path(resume)
        given = {**read_run(run).to_dict(), **given}
    _import_code(given, arguments)  # before the settings, whose defaults it has a say in
    settings = TrainSettings.from_dict(given)
    assert settings.graph is not None
    settings = replace(settings, graph=graph_from_options(arguments, settings.graph))
    if not isinstance(resume, str):
        parts = (settings.network, settings.dataset, settings.task)
        name = output.stem if output else "_".join(part.rpartition(":")[2] for part in parts)
        run = find_run(name) if resume else new_run(name)
    if resume:
        check_same_run(run, read_run(run), settings)

    # The processes that simulate or read need cores too.
    threads = len(os.sched_getaffinity(0)) // settings.devices - settings.num_workers
    torch.set_num_threads(max(1, threads))
    say = rank_zero_only(print)
    try:
        with removed_if_unused(run):
            model = train(settings, run, output)
    except TrainingStopped as stopped:
        again = ["aegnn", "train", "--resume", str(run), *(["--output", str(output)] if output else [])]
        for path in filter(is_path, (settings.network, settings.dataset)):
            again += ["--trust-code", path.partition(":")[0]]
        say(f"aegnn: {stopped} of {settings.steps}; go on with: {shlex.join(again)}", file=sys.stderr)
        raise KeyboardInterrupt from None
    say(f"{output or run / 'model.safetensors'}: {model.training['steps']} steps; log and checkpoints in {run}")


def _import_code(given: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Import network and data set where the settings have their paths; refuse those that only a file names.

    Who types a path, trusts it.
    """
    paths = {name: given[name] for name in _REGISTRIES if isinstance(given.get(name), str) and is_path(given[name])}
    for name, path in paths.items():
        if not trusts(arguments.trust_code, path) and getattr(arguments, name, None) != path:
            raise ValueError(
                f"the settings have the {name} {path[:300]} of another package, whose code is imported only if you"
                f" trust it: pass --trust-code {path.partition('.')[0][:100]}, or the {name} on the command line"
            )
    for name, path in paths.items():
        _REGISTRIES[name].trust(path)


def _options(given: list[str]) -> dict[str, Any]:
    """Options of the network from the command line, each a name, ``=`` and a value as in YAML."""
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--option is {text!r}, expected NAME=VALUE")
        try:
            options[name] = read_value(value)
        except ValueError as error:
            raise ValueError(f"--option is {text!r}, expected a value as in YAML") from error
    return options
