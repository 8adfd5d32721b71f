# SPDX-License-Identifier: Apache-2.0
"""A run survives Ctrl-C and SIGKILL, goes on, uses several processes, and its checkpoints become model files."""

import fcntl
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
from aegnn_core.training.runs.run_folder import BEST, LAST, new_run

pytest.importorskip("lightning")

from aegnn_core.training.learning import learner
from aegnn_core.training.learning.learner import GraphLearner

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
    assert [path.name for path in tmp_path.glob("logs/*/*")] == ["version_0"]
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
        (run / LAST, "x.pt", r"a model file must end in \.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            export_checkpoint(path, nmnist / output)


def test_arithmetic_behind_the_graph_may_be_of_16_bits(nmnist: Path, logs: Path) -> None:
    options = ["--steps", "2", "--validate-every", "2", "--precision", "bf16-mixed", "--num-workers", "0"]
    assert main(["train", *COMMON, *options]) == 0
    model = load_model(logs / "graph_grid_nmnist_recognition" / "version_0" / "model.safetensors")
    assert all(value.isfinite().all() for value in model.network.state_dict().values())
    assert model.network.state_dict()["head.linear.weight"].dtype == torch.float32


#: What :func:`before_step` raises.
class PowerCut(BaseException):
    """Ends a training at once."""


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[GraphLearner], None]) -> None:
    """Do something when so many steps of a training in this process have been done."""

    def on_train_batch_start(self: GraphLearner, batch: object, number: int) -> None:
        if self.trainer.global_step == step:
            act(self)

    monkeypatch.setattr(GraphLearner, "on_train_batch_start", on_train_batch_start, raising=False)


def cut_power(_: GraphLearner) -> None:
    raise PowerCut


@pytest.fixture
def accuracies(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next validations will find."""
    coming: list[float] = []
    monkeypatch.setattr(learner, "logged_figures", lambda _: {"validation/accuracy": coming.pop(0)})
    return coming


def test_sigterm_stops_a_run_with_a_checkpoint_and_is_no_success(
    nmnist: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it comes from service managers, containers and clusters."""
    before_step(monkeypatch, 3, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    options = [*COMMON, "--num-workers", "0", "--steps", "100", "--validate-every", "0"]
    found = signal.getsignal(signal.SIGTERM)
    assert main(["train", *options]) == 130
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    assert "aegnn: stopped after step 4 of 100; go on with: aegnn train --resume" in capsys.readouterr().err
    assert read_checkpoint(run / LAST)["global_step"] == 4
    assert signal.getsignal(signal.SIGTERM) == found


def test_a_training_that_diverges_ends_and_its_checkpoints_stay(
    nmnist: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before_step(monkeypatch, 5, lambda module: next(module.parameters()).data.fill_(torch.nan))
    options = [*COMMON, "--num-workers", "0", "--steps", "100", "--validate-every", "0", "--checkpoint-every", "4"]
    assert main(["train", *options]) == 2
    errors = capsys.readouterr().err
    assert "aegnn: the training has diverged: after step 8, weights are not finite, such as network." in errors
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    state = read_checkpoint(run / LAST)
    assert state["global_step"] == 4
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert not (run / "model.safetensors").exists()


def test_where_nothing_can_be_written_is_said_before_the_first_step(
    nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nmnist / "file").touch()
    (nmnist / "folder.safetensors").mkdir()
    commands = (["train", *COMMON, "--steps", "1000000"], ["export", "no.ckpt"], ["join", "no.safetensors"])
    for command in commands:
        for output, reason in (("file/x.safetensors", "cannot be written"), ("folder.safetensors", "is a folder")):
            assert main([*command, "--output", str(nmnist / output)]) == 2
            assert f"aegnn: {nmnist / output}: {reason}" in capsys.readouterr().err
    assert not list(logs.glob("*/*"))


def test_the_best_weights_stay_where_the_last_checkpoint_is_older_and_the_folder_elsewhere(
    nmnist: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, accuracies: list[float]
) -> None:
    options = [*COMMON, "--num-workers", "0", "--steps", "8", "--validate-every", "2", "--checkpoint-every", "4"]
    accuracies += [0.3, 0.9]
    with monkeypatch.context() as patch:
        before_step(patch, 5, cut_power)
        with pytest.raises(PowerCut):
            main(["train", *options])
    runs = logs / "graph_grid_nmnist_recognition"
    (runs / "version_0").rename(runs / "version_3")
    accuracies += [0.5, 0.4]
    assert main(["train", *options, "--resume"]) == 0
    assert read_checkpoint(runs / "version_3" / BEST)["global_step"] == 4
    assert accuracies == []


def test_a_run_whose_patience_is_over_does_no_further_step_unless_it_gets_more(
    nmnist: Path, logs: Path, accuracies: list[float]
) -> None:
    options = [*COMMON, "--num-workers", "0", "--steps", "50", "--validate-every", "2"]
    accuracies += [0.9, 0.5, 0.5]
    assert main(["train", *options, "--patience", "2"]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    assert main(["train", *options, "--patience", "2", "--resume"]) == 0
    assert read_checkpoint(run / LAST)["global_step"] == 6
    accuracies += [0.5, 0.5]
    assert main(["train", *options, "--patience", "4", "--resume"]) == 0
    assert read_checkpoint(run / LAST)["global_step"] == 10
    assert load_model(run / "model.safetensors").training["steps"] == 2


def test_without_a_validation_left_the_last_weights_are_the_best(
    nmnist: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*COMMON, "--num-workers", "0", "--steps", "5", "--checkpoint-every", "4"]
    with monkeypatch.context() as patch:
        before_step(patch, 4, cut_power)
        with pytest.raises(PowerCut):
            main(["train", *options, "--validate-every", "0"])
    assert main(["train", *options, "--validate-every", "3", "--patience", "1", "--resume"]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    assert load_model(run / "model.safetensors").training["steps"] == 5


def test_runs_that_begin_together_have_folders_of_their_own_and_none_is_gone_on_with_twice(
    nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [new_run("tiny").name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    options = [*COMMON, "--num-workers", "0", "--steps", "2", "--validate-every", "0"]
    assert main(["train", *options]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    program = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(run / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    capsys.readouterr()
    assert main(["train", *options, "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"aegnn: another process trains in {run}, expected a run that nobody goes on with\n"
    )
    other.communicate("\n", timeout=60)
    assert main(["train", *options, "--resume"]) == 0
    with (run / "lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_training_that_is_refused_leaves_no_folder(nmnist: Path, logs: Path) -> None:
    assert main(["train", *COMMON, "--dataset", "ncars"]) == 2
    assert not list(logs.glob("*/*"))


def test_a_recording_that_a_loader_cannot_read_is_one_sentence(
    nmnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = nmnist / "data" / "nmnist" / "training" / "3" / "00001.bin"
    broken.write_bytes(b"abc")
    assert main(["train", *COMMON, "--num-workers", "1", "--steps", "20", "--validate-every", "0"]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert sentence.startswith(f"aegnn: {broken}: holds no events")
