# SPDX-License-Identifier: Apache-2.0
"""A run survives Ctrl-C and SIGKILL, goes on, uses several processes, and its checkpoints become model files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from aegnn_core import load_model
from aegnn_core.cli import main
from aegnn_core.training.runs.export import export_checkpoint, read_checkpoint
from aegnn_core.training.runs.run_folder import LAST

pytest.importorskip("lightning")

COMMON = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--batch-size", "2", "--logger", "csv"]


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begins trainings in processes of their own, which end with the test."""
    begun = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "aegnn_core.cli", "train", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        root = Path(__file__).parents[2]
        begun.append(subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for_step(checkpoint: Path, step: int, process: subprocess.Popen[str]) -> int:
    """Wait until a checkpoint is of at least so many steps; return of how many."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        assert process.poll() is None, process.communicate()
        if checkpoint.exists() and (done := read_checkpoint(checkpoint)["global_step"]) >= step:
            return done
        time.sleep(0.05)
    raise AssertionError(f"no {checkpoint} of step {step} after two minutes")


@pytest.mark.timeout(400)
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    nmnist: Path, logs: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    steps = ["--steps", "100000", "--checkpoint-every", "3", "--validate-every", "5", "--num-workers", "1"]
    run = logs / "tiny" / "version_0"
    process = begin(*COMMON, *steps, "--ema", "0.9", "--output", str(nmnist / "tiny.safetensors"))
    killed_at = wait_for_step(run / LAST, 6, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun_at = read_checkpoint(run / LAST)["global_step"]
    assert begun_at >= killed_at
    assert sorted(path.name for path in logs.glob("*/*")) == ["version_0"]

    process = begin(*COMMON, *steps, "--ema", "0.9", "--output", str(nmnist / "tiny.safetensors"), "--resume")
    wait_for_step(run / LAST, begun_at + 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    stopped_at = read_checkpoint(run / LAST)["global_step"]
    assert process.returncode == 130
    assert (
        f"aegnn: stopped after step {stopped_at} of 100000; go on with: aegnn train --resume {run} --output" in errors
    )
    assert not (nmnist / "tiny.safetensors").exists()
    # The steps are counted on, none is done twice, and the average of the weights has been kept beside them.
    state = read_checkpoint(run / LAST)
    assert state["averaging_state"]["n_averaged"] == stopped_at
    assert int(state["optimizer_states"][0]["state"][0]["step"]) == stopped_at
    assert state["lr_schedulers"][0]["_step_count"] == stopped_at + 1
    assert "validation/accuracy" in (run / "metrics_part_1.csv").read_text()


#: Trains as ``aegnn train`` does, and has every process write what it saw to ``seen.<rank>.json``.
WATCHED_TRAINING = """
import json, pathlib, sys
import torch
from aegnn_core.cli import main
from aegnn_core.training.learning.learner import GraphLearner

train, samples = GraphLearner.training_step, []

def watched(self, batch, number):
    samples.append(float(batch.pos.double().sum()))
    return train(self, batch, number)

def write(self):
    seen = {"samples": samples, "weights": float(torch.cat([p.flatten() for p in self.parameters()]).double().norm())}
    seen["validated"] = len(self._validation)
    seen["accuracy"] = float(self.trainer.callback_metrics["validation/accuracy"])
    pathlib.Path(f"seen.{self.global_rank}.json").write_text(json.dumps(seen))

GraphLearner.training_step, GraphLearner.on_train_end = watched, write
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.timeout(400)
def test_two_processes_share_the_work(tmp_path: Path) -> None:
    """Samples differ, weights are equal, and figures are over the seven samples of both, of which one has four."""
    (tmp_path / "train.py").write_text(WATCHED_TRAINING)
    options = ["--steps", "3", "--validate-every", "3", "--validation-samples", "7", "--devices", "2"]
    command = [sys.executable, "train.py", *COMMON, "--dataset", "simulated", *options, "--num-workers", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, "--output", "tiny.safetensors"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    assert done.stdout.count("tiny.safetensors: 3 steps") == 1
    one, other = (json.loads((tmp_path / f"seen.{rank}.json").read_text()) for rank in (0, 1))
    assert len(one["samples"]) == len(other["samples"]) == 3
    assert set(one["samples"]).isdisjoint(other["samples"])
    assert one["weights"] == other["weights"]
    assert one["validated"] == other["validated"] == 4  # a sample that both have had counts once
    assert one["accuracy"] == other["accuracy"] == pytest.approx(round(7 * one["accuracy"]) / 7)
    assert load_model(tmp_path / "tiny.safetensors").training["steps"] == 3


def test_a_run_that_is_over_is_not_begun_again_and_other_settings_are_refused(
    nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = nmnist / "tiny.safetensors"
    options = [*COMMON, "--num-workers", "0", "--steps", "4", "--validate-every", "2", "--output", str(output)]
    assert main(["train", *options]) == 0
    first = load_model(output)
    assert main(["train", *options, "--resume"]) == 0
    again = load_model(output)
    assert again.training["steps"] == 4
    for name, value in again.network.state_dict().items():
        assert torch.equal(value, first.network.state_dict()[name])
    capsys.readouterr()
    run = logs / "tiny" / "version_0"
    assert main(["train", *options, "--resume", "--learning-rate", "1e-3", "--radius", "2"]) == 2
    message = capsys.readouterr().err
    assert (
        f"aegnn: the run {run} cannot go on with other settings: learning_rate is 0.001, it has 0.004, graph" in message
    )
    assert main(["train", "--resume", str(nmnist)]) == 2
    assert f"aegnn: {nmnist} is not the folder of a run" in capsys.readouterr().err
    assert main(["train", "graph_res", "--task", "recognition", "--resume"]) == 2
    assert "aegnn: no run to resume: found no folder" in capsys.readouterr().err


def test_the_best_weights_are_kept_and_a_run_without_progress_ends(nmnist: Path, logs: Path) -> None:
    """With a learning rate of nearly nothing, all validations after the first are without progress."""
    options = ["--steps", "1000", "--validate-every", "2", "--patience", "2", "--learning-rate", "1e-12"]
    assert main(["train", *COMMON, *options, "--num-workers", "0"]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    best, last = (read_checkpoint(run / f"{name}.ckpt") for name in ("best", "last"))
    assert (best["global_step"], last["global_step"]) == (2, 6)
    model = load_model(run / "model.safetensors")
    assert model.training["steps"] == 2
    assert 0 <= model.training["validation/accuracy"] <= 1
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"network.{name}"])


def test_checkpoints_become_model_files(nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--steps", "3", "--validate-every", "2", "--ema", "0.5", "--max-neighbors", "7", "--window", "50000"]
    assert main(["train", *COMMON, *options, "--num-workers", "0"]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    capsys.readouterr()
    for name, steps in (("best", 2), ("last", 3)):
        path = nmnist / f"{name}.safetensors"
        assert main(["export", str(run / f"{name}.ckpt"), "--output", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}: graph_grid for recognition after {steps} steps\n"
        model = load_model(path)
        assert (model.training["steps"], model.labels) == (steps, tuple("0123456789"))
        assert (model.graph.max_neighbors, model.graph.window, model.training["ema"]) == (7, 50_000, 0.5)
    # What was trained is the average of the weights, which the model file has.
    state = read_checkpoint(run / LAST)["state_dict"]
    written = load_model(run / "model.safetensors").network.state_dict()
    assert all(torch.equal(value, state[f"network.{name}"]) for name, value in written.items())

    foreign = nmnist / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    broken = nmnist / "broken.ckpt"
    broken.write_bytes((run / LAST).read_bytes()[:1000])
    for path, output, message in (
        (nmnist / "absent.ckpt", "x.safetensors", "no checkpoint at"),
        (foreign, "x.safetensors", "was not written by aegnn train"),
        (broken, "x.safetensors", "is not a readable checkpoint"),
        (run / LAST, "x.pt", r"output must end in \.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            export_checkpoint(path, nmnist / output)


def test_arithmetic_behind_the_graph_may_be_of_16_bits(nmnist: Path, logs: Path) -> None:
    options = ["--steps", "2", "--validate-every", "2", "--precision", "bf16-mixed", "--num-workers", "0"]
    assert main(["train", *COMMON, *options]) == 0
    model = load_model(logs / "graph_grid_nmnist_recognition" / "version_0" / "model.safetensors")
    assert all(value.isfinite().all() for value in model.network.state_dict().values())
    assert model.network.state_dict()["head.linear.weight"].dtype == torch.float32
