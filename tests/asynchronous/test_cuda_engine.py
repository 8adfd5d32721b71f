# SPDX-License-Identifier: Apache-2.0
"""The engine for CUDA devices, where there is none: what the contract does not say of it."""

import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aegnn_core import GraphConfig, make_model_asynchronous, network
from aegnn_core.asynchronous.cuda import CudaEngine, interpreted, launching, self_check
from aegnn_core.asynchronous.cuda import engine as cuda_engine
from aegnn_core.asynchronous.cuda.launching import Upload
from aegnn_core.asynchronous.cuda.replay import capture_on_device
from aegnn_core.asynchronous.cuda.self_check import disagreement, known_disagreement
from aegnn_core.asynchronous.packet_engine import PacketEngine
from aegnn_core.events.array import make_events
from aegnn_core.nn import load_model
from tests.asynchronous.test_contract import NETWORKS, assert_equal, crowd, dense, make_network
from tests.nn.random_networks import randomize

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the engine cuda needs Triton: pip install triton")
needs_interpreter = pytest.mark.skipif(not interpreted(), reason="TRITON_INTERPRET=0: the kernels are not interpreted")
ROOT = Path(__file__).parents[2]
GRAPH = GraphConfig(max_neighbors=4, window=30_000)


@needs_interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_runs_give_the_same_bits_however_packets_are_cut(dtype: torch.dtype) -> None:
    module, events = make_network("graph_grid", 0).to(dtype), crowd(60)
    answers = []
    for size in (60, 60, 7):
        live = make_model_asynchronous(module, GRAPH, engine="cuda")
        for start in range(0, 60, size):
            live.update(events[start : start + size])
        answers.append(live.output())
    assert torch.equal(answers[0], answers[1])
    assert_equal(answers[2], answers[0], 1e-6)


@needs_interpreter
@pytest.mark.parametrize("events", [16, 256])
def test_slots_that_are_compared_give_what_slots_from_a_table_give(
    events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 2.2 px are 13 pixels, fewer than the kernels of ``graph_wen`` in the plane."""
    module, stream, graph = make_network("graph_wen", 0), crowd(40), replace(GRAPH, radius=2.2)
    monkeypatch.setattr(launching, "_OWN_SLOTS_EVENTS", events)
    answers = []
    for own in (True, False):
        live = make_model_asynchronous(module, graph, engine="cuda")
        assert live.engine._splines.own
        live.engine._splines.own = own
        live.update(stream)
        answers.append(live.output())
    assert torch.equal(answers[0], answers[1])
    assert_equal(answers[0], dense(module, stream, graph))


@needs_interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["histogram", "graph_grid"])
def test_cells_are_those_of_the_networks_own_precision(kind: str, dtype: torch.dtype) -> None:
    """Of 2.4 px, where the last bit of a quotient decides."""
    module = network(kind, sensor=(60, 50), num_classes=3, voxel=[2.4, 1.8])
    randomize(module, 0).to(dtype)
    events = make_events(np.arange(60), np.arange(60), np.arange(60) % 50, np.arange(60) % 2)
    live = make_model_asynchronous(module, GRAPH, engine="cuda")
    live.update(events)
    assert_equal(live.output(), dense(module, events, GRAPH), 1e-4)


class Recorder:
    """Stands for CUDA graphs: what is captured is not run, and replayed with the arguments of that time."""

    def __init__(self) -> None:
        self._captured: list[Callable[[], None]] | None = None
        self.replays = 0

    def __getattr__(self, name: str) -> Any:
        from aegnn_core.asynchronous.cuda import kernels

        class Kernel:
            def __getitem__(_, grid: tuple[int, ...]) -> Any:
                def launch(*arguments: Any, **constants: Any) -> None:
                    run = partial(getattr(kernels, name)[grid], *arguments, **constants)
                    run() if self._captured is None else self._captured.append(run)

                return launch

        return Kernel()

    def capture(self, launches: Callable[[], None]) -> Callable[[], None]:
        self._captured = captured = []
        launches()
        self._captured = None

        def replay() -> None:
            self.replays += 1
            for launch in captured:
                launch()

        return replay


@needs_interpreter
def test_replayed_launches_give_what_launches_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_engine, "_SMALLEST_CAPACITY", 32)
    module, events, recorder = make_network("graph_grid", 0).float(), crowd(100), Recorder()
    plain = CudaEngine(module, GRAPH)
    replayed = CudaEngine(module, GRAPH, recorder, recorder.capture)
    start = 0
    for size in (2, 2, 2, 2, 2, 70, 1, 1, 1, 1, 1):
        packet = events[start : start + size]
        start += size
        for engine in (plain, replayed):
            engine.update(packet)
        assert torch.equal(plain.output(int(packet["t"][-1])), replayed.output(int(packet["t"][-1])))
    assert plain.flops() == replayed.flops()
    # Launched: what each of the three buffers held first, and first in rings that had grown.
    assert recorder.replays == 2 + 2
    replayed.reset()
    for _ in range(3):
        replayed.update(events[:2])  # into new rings
    assert recorder.replays == 2 + 2
    replayed.reset()
    plain.reset()
    for engine in (plain, replayed):
        engine.update(events[:9])  # into the same ones
    assert recorder.replays == 2 + 2 + 1
    assert torch.equal(plain.output(int(events["t"][8])), replayed.output(int(events["t"][8])))


def test_only_one_thread_captures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every capture begins with waiting for the device, which fails while another thread captures."""
    busy: list[torch.cuda.CUDAGraph] = []

    @contextmanager
    def capturing(graph: torch.cuda.CUDAGraph, **_: Any) -> Iterator[None]:
        assert not busy, "operation not permitted when stream is capturing"
        busy.append(graph)
        time.sleep(0.02)
        yield
        busy.clear()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    with ThreadPoolExecutor(3) as threads:
        assert len(list(threads.map(capture_on_device, [lambda: None] * 3))) == 3


def test_buffers_are_not_given_away_while_a_device_may_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_for = []
    monkeypatch.setattr(launching, "_wait", lambda _, __, turn: waited_for.append((turn, words() is not None)))
    upload = Upload(1, torch.device("cpu"), buffers=2)
    words = weakref.ref(upload.buffer)
    for _ in range(3):
        upload.begin()
        upload.launched()
    # The first two into buffers that nobody has read, the third where the first was.
    assert waited_for == [(0, True), (0, True), (1, True)]
    upload.begin()  # but nothing was launched
    del upload
    assert waited_for[3:] == [(2, True), (3, True)]
    assert words() is None


def test_a_buffer_is_free_when_the_device_says_so_or_has_nothing_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    stream = SimpleNamespace(synchronize=lambda: asked.append("stream"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: asked.append("device"))
    read, device = np.zeros(1, np.int64), torch.device("cuda")
    launching._wait(read, device, 0)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(launching._wait, read, device, 2)
        read[0] = 2
        done.result(10)
    assert not asked
    monkeypatch.setattr(launching, "_PATIENCE", 0.001)
    launching._wait(read, device, 3)
    assert asked == ["stream", "device"]


@needs_interpreter
def test_packets_of_crowded_pixels_and_of_months_are_linked_as_the_cpu_does() -> None:
    """Events of one pixel within a packet and over packets; times that no word holds between two events."""
    module, generator = make_network("graph_grid", 0), np.random.default_rng(0)
    steps = generator.choice([0, 1, 1_000, 2**32 - 1, 2**32, 2**45], 400, p=[0.4, 0.3, 0.2, 0.04, 0.03, 0.03])
    events = make_events(np.cumsum(steps) - 2**47, *generator.integers(0, [[3], [2], [2]], (3, 400)))
    graph = GraphConfig(max_neighbors=6, window=2**33)
    lives = [make_model_asynchronous(module, graph, engine=engine) for engine in ("cuda", "compiled")]
    start = 0
    for size in (1, 2, 150, 247):
        for live in lives:
            live.update(events[start : start + size])
        start += size
        assert_equal(lives[0].output(), lives[1].output())
    assert lives[0].flops().layers["splines"] == lives[1].flops().layers["splines"]


@needs_interpreter
def test_a_capture_that_is_wrong_or_fails() -> None:
    module = make_network("graph_grid", 0).float()

    def idle(launches: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def failing(launches: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    assert "of its self-check its answer is" in str(
        disagreement(lambda *both: CudaEngine(*both, capture=idle), module, GRAPH, 100)
    )
    with pytest.warns(UserWarning, match="launched by itself, which is slower: operation not permitted"):
        assert disagreement(lambda *both: CudaEngine(*both, capture=failing), module, GRAPH, 20) is None


@needs_interpreter
def test_other_engines_go_on_from_its_state_and_it_from_theirs() -> None:
    module, events = make_network("graph_grid", 0), crowd(100)
    live = make_model_asynchronous(module, GRAPH, engine="compiled")
    for n, engine in enumerate(("cuda", "packet", "cuda", "compiled")):
        live.update(events[25 * n : 25 * (n + 1)])
        before = live
        live = make_model_asynchronous(module, GRAPH, engine=engine)
        live.load_state_dict(before.state_dict())
        assert_equal(live.output(), dense(module, events[: 25 * (n + 1)], GRAPH))


@needs_interpreter
def test_the_interpreter_is_for_those_who_ask_for_it() -> None:
    module = make_network("graph_res_mean", 0)  # which the engine before it does not take
    assert make_model_asynchronous(module, GRAPH).engine_name == "packet"
    assert "in Triton's interpreter" in repr(make_model_asynchronous(module, GRAPH, engine="cuda"))


@needs_interpreter
def test_what_it_cannot_run_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_network("graph_grid", 0)
    assert "px may lie within the radius, found 31417" in str(CudaEngine.refusal(module.cpu(), GraphConfig(radius=100)))
    assert CudaEngine.refusal(module, GraphConfig(directed=False)) == "in an undirected graph older nodes change"
    assert "float32 or float64, found torch.float16" in str(CudaEngine.refusal(module.half(), GRAPH))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "the model is on the CPU" in str(CudaEngine.refusal(module.float(), GRAPH))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("aegnn_core.triton_support.find_spec", lambda _: None)
    assert "pip install triton" in str(CudaEngine.refusal(module, GRAPH))


@needs_interpreter
def test_an_engine_that_is_wrong_on_its_device_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: the interpreter stands for one on which the convolution loses its last neighbours."""
    from aegnn_core.asynchronous.cuda import kernels

    class Forgetful:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(head: Any, distance: Any, kind: Any, age: Any, counts: Any, *others: Any, **constants: Any):
                fewer = torch.where(counts > 2, counts - 1, counts)
                kernels.convolve[grid](head, distance, kind, age, fewer, *others, **constants)

            return launch

    module = make_network("graph_grid", 0).float()
    assert disagreement(CudaEngine, module, GRAPH, 100) is None
    wrong = SimpleNamespace(**{name: getattr(kernels, name) for name in kernels.__all__})
    wrong.convolve = Forgetful()
    monkeypatch.setattr(
        self_check, "disagreement", lambda _, *rest: disagreement(lambda *both: CudaEngine(*both, wrong), *rest, 100)
    )
    monkeypatch.setattr(self_check, "_known", {})
    monkeypatch.setattr("aegnn_core.asynchronous.cuda.engine.interpreted", lambda: False)
    monkeypatch.setattr("aegnn_core.asynchronous.live.interpreted", lambda: False)
    message = r"after \d+ events of its self-check its answer is .* away from that of the CPU, 0.0001 are allowed"
    with pytest.warns(UserWarning, match=rf"the engine cuda is not used on cpu: {message}"):
        live = make_model_asynchronous(module, GRAPH)
    assert live.engine_name == "compiled"
    with pytest.raises(ValueError, match=rf"no engine can run this model exactly \(cuda: {message}"):
        make_model_asynchronous(module, GRAPH, engine="cuda")


def test_a_kernel_that_does_not_compile_refuses_the_engine() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel image is available for execution on the device")

    assert "self-check failed with RuntimeError: no kernel image" in str(
        disagreement(broken, make_network("graph_grid", 0), GRAPH, 20)
    )


def test_a_self_check_without_memory_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    module = make_network("graph_grid", 0)
    monkeypatch.setattr(self_check, "_known", {})
    with pytest.warns(UserWarning, match="the engine cuda is not used on cpu: there is no memory for its self-check"):
        reason = known_disagreement(full, module, GRAPH)
    assert reason == "there is no memory for its self-check: CUDA out of memory"
    assert known_disagreement(PacketEngine, module, GRAPH) is None


#: With which a multiprocessor, of 64 Ki registers, has room for a program of 256 threads; only the widest layers need
#: so many.
_MOST_REGISTERS = 255
#: Bytes per thread that are no spills worth the name.
_LEAST_SPILL = 16


@pytest.mark.slow
@pytest.mark.timeout(420)  # a minute of one core, which it may have to share
def test_kernels_compile_for_every_target_without_spills() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "aegnn_core.asynchronous.cuda.targets"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    compiled = json.loads(done.stdout)
    assert {one["target"] for one in compiled} == {80, 87, 90, 120}
    engine = {"insert", "link", "take_moment", "convolve_image", "search", "convolve", "pool_cells", "count_cells"}
    assert {one["kernel"] for one in compiled} == {*engine, "weight_gradient"}  # training has a convolve, too
    spilled = [one for one in compiled if one["local"] > _LEAST_SPILL or one["registers"] > _MOST_REGISTERS]
    assert not spilled
    assert np.max([one["shared"] for one in compiled]) <= 48 << 10


@pytest.mark.slow
@needs_interpreter
def test_the_command_for_a_gpu_runs_to_its_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "on_gpu.sh", "--dry", tmp_path], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "dry run" in found["device"]
    assert set(found["self_check"].values()) == {None}
    assert {row["engine"] for row in found["results"]} == {"cuda", "packet", "compiled", "counting"}
    assert min(row["events_per_second"] for row in found["results"]) > 0
    assert "| graph_res, N-Cars | cuda | cpu |" in (tmp_path / "gpu.md").read_text()


# On a device: scripts/on_gpu.sh runs these.


@pytest.mark.cuda
@pytest.mark.skipif(interpreted() or not torch.cuda.is_available(), reason="needs a CUDA device and TRITON_INTERPRET=0")
class TestOnADevice:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("kind", NETWORKS)
    def test_it_answers_as_the_cpu_does(self, kind: str, dtype: torch.dtype) -> None:
        module = make_network(kind, 0).to("cuda", dtype)
        assert disagreement(CudaEngine, module, GRAPH) is None

    @pytest.mark.parametrize("graph", [GraphConfig(), GraphConfig(max_nodes=50, radius=4.2)])
    def test_it_answers_so_on_other_graphs(self, graph: GraphConfig) -> None:
        assert disagreement(CudaEngine, make_network("graph_grid", 0).float().cuda(), graph) is None

    @pytest.mark.parametrize("name", ["scenes_detector", "scenes_graph_detector", "ncars", "nmnist"])
    def test_packaged_models_answer_as_on_the_cpu(self, name: str) -> None:
        """Their heads are convolutions, which torch rounds to TF32 unless it is told not to."""
        trained = load_model(name)
        before = torch.backends.cudnn.allow_tf32
        assert disagreement(CudaEngine, trained.network.cuda(), trained.graph) is None
        assert torch.backends.cudnn.allow_tf32 == before

    def test_two_runs_give_the_same_bits(self) -> None:
        module, events = make_network("graph_grid", 0).float().cuda(), crowd(2_000)
        lives = [make_model_asynchronous(module, GRAPH, engine="cuda") for _ in range(2)]
        for live in lives:
            live.update(events)
        assert torch.equal(lives[0].output(), lives[1].output())

    def test_large_packets_are_linked_as_on_the_cpu(self) -> None:
        """Of crowded pixels, one after the other without waiting, more than there are buffers."""
        module, events = make_network("graph_grid", 0).float(), crowd(60_000)
        lives = [
            make_model_asynchronous(deepcopy(module).cuda(), GRAPH, engine="cuda"),
            make_model_asynchronous(module, GRAPH, engine="compiled"),
        ]
        for live in lives:
            for part in np.split(events, (1, 8, 100, 1_100, 11_100, 41_100, 41_101, 42_100, 50_000, 59_993)):
                live.update(part)
        assert_equal(lives[0].output().cpu(), lives[1].output(), 1e-4)

    def test_no_memory_for_larger_rings_leaves_the_state_as_it_was(self) -> None:
        module, events = make_network("graph_grid", 0).float().cuda(), crowd(60_000)
        live = make_model_asynchronous(module, GraphConfig(), engine="cuda")
        live.update(events[:1_000])
        before = live.output()
        torch.cuda.empty_cache()
        _, memory = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (1 << 20)) / memory)
        try:
            with pytest.raises(MemoryError, match="no memory for rings of"):
                live.update(events[1_000:])
            assert torch.equal(live.output(), before)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        live.update(events[1_000:])
        live.output()
