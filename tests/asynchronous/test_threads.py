# SPDX-License-Identifier: Apache-2.0
"""Threads share the packets of a live model, and nobody can tell from its answers how many they are."""

import copy
import errno
import math
import os
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aegnn_core import GraphConfig, cores, make_model_asynchronous, network
from aegnn_core.asynchronous import LiveModel, threads
from aegnn_core.asynchronous.compiled import crew, pipeline
from aegnn_core.events import make_events
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.machine_code import kernel
from tests.forked_children import end_after
from tests.nn.random_networks import randomize

SENSOR = (24, 18)
NETWORKS = {
    "graph_res": ("graph_res", "ncars", {}),
    "graph_wen": ("graph_wen", "nmnist", {}),  # whose edges name the rows of the sums that they act on
    "graph_grid_ages": ("graph_grid", "nmnist", {"least_ages": [10_000, 20_000]}),
}
RULES = {"window": GraphConfig(window=20_000), "last nodes": GraphConfig(max_nodes=700), "all": GraphConfig()}
#: Longer than any wait of a test: threads share every packet, however busy the machine is.
FOR_EVER = 10**15


def random_events(rng: np.random.Generator, count: int, begin: int = 0) -> np.ndarray:
    """Events in clusters, 10 per ms."""
    t = begin + np.sort(rng.integers(0, 100 * count, count))
    x, y = (np.minimum(rng.integers(0, side, (2, count)).min(0), side - 1) for side in SENSOR)
    return make_events(t, x, y, rng.integers(0, 2, count))


def make(kind: str, graph: GraphConfig, threads: int) -> LiveModel:
    """A live model with weights that depend on its kind alone."""
    name, dataset, options = NETWORKS[kind]
    torch.manual_seed(0)
    module = randomize(network(name, dataset=dataset, sensor=SENSOR, **options), 0)
    live = make_model_asynchronous(module, graph, engine="compiled", threads=threads)
    live.engine._crew.words[pipeline.PATIENCE_NS] = FOR_EVER
    return live


@pytest.fixture(autouse=True)
def _as_many_cores_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few this machine has."""
    monkeypatch.setattr(crew, "usable_cores", lambda: pipeline.MOST_THREADS)


def helpers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("aegnn-")}


@pytest.fixture
def live() -> LiveModel:
    """A live model of three threads that have been at work."""
    made = make("graph_res", RULES["window"], 3)
    made.update(random_events(np.random.default_rng(0), 1_000))
    return made


@pytest.mark.parametrize(
    ("kind", "rule"),
    [*(("graph_res", rule) for rule in RULES), ("graph_wen", "window"), ("graph_grid_ages", "last nodes")],
)
def test_any_number_of_threads_gives_the_same_bits(kind: str, rule: str) -> None:
    """In packets of one event to more than the rings hold at first, with outputs and resets in between."""
    lives = [make(kind, RULES[rule], threads) for threads in (1, 2, 3)]
    assert [live.threads for live in lives] == [1, 2, 3]
    rng = np.random.default_rng(1)
    for sizes in ([1, 700, 63, 64, 65, 5_003, 1, 900], [300, 1_001]):
        events = random_events(rng, sum(sizes))
        for start, stop in pairwise([0, *np.cumsum(sizes).tolist()]):
            for live in lives:
                live.update(events[start:stop])
            outputs = [live.output() for live in lives]
            assert all(torch.equal(output, outputs[0]) for output in outputs)
        assert len({live.state_dict()["digest"] for live in lives}) == 1
        assert len({tuple(live.flops().layers.items()) for live in lives}) == 1
        for live in lives:
            live.reset()


def test_two_live_models_at_once_under_stress() -> None:
    """Driven from two threads in random packets, each compared with one thread of its own; one of them only grows.

    For 5 s, or as long as the environment variable AEGNN_STRESS_SECONDS says.
    """
    seconds = float(os.environ.get("AEGNN_STRESS_SECONDS", "5"))
    faults: list[str] = []

    def drive(seed: int, one: LiveModel, many: LiveModel) -> None:
        rng = np.random.default_rng(seed)
        end, begin = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            events = random_events(rng, int(rng.choice([1, 150, 800, 3_000])), begin)
            begin = int(events["t"][-1])
            for live in (one, many):
                live.update(events)
            if not torch.equal(one.output(), many.output()):
                faults.append(f"{len(one)} events, seed {seed}")
            if rng.random() < 0.05:
                one.reset()
                many.reset()

    rules = RULES["window"], RULES["all"]
    lives = [[make("graph_res", rule, threads) for threads in (1, 2 + seed)] for seed, rule in enumerate(rules)]
    drivers = [threading.Thread(target=drive, args=(seed, *pair)) for seed, pair in enumerate(lives)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60 + seconds)
        assert not driver.is_alive()
    assert not faults


def test_a_thread_that_cannot_sleep_ends_and_says_why_once() -> None:
    words = np.zeros(pipeline.WORDS, np.int64)
    words[pipeline.FAILED] = errno.EINVAL
    with pytest.raises(OSError, match=r"cannot wait on its semaphore \(Invalid argument") as caught:
        crew.check_sleep(words)
    assert caught.value.errno == errno.EINVAL
    crew.check_sleep(words)  # of another thread


def test_threads_begin_with_the_first_packet_for_them_sleep_between_and_end_with_the_model() -> None:
    before = helpers()
    live = make("graph_res", RULES["window"], 3)
    events = random_events(np.random.default_rng(0), 1_010)
    live.update(events[:10])
    assert not helpers() - before
    live.update(events[10:])
    assert len(helpers() - before) == 2
    time.sleep(0.05)
    spent = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - spent < 0.01
    del live
    end = time.monotonic() + 10
    while helpers() - before and time.monotonic() < end:
        time.sleep(0.01)
    assert not helpers() - before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_the_process_gets_threads_of_its_own(live: LiveModel) -> None:
    events = random_events(np.random.default_rng(1), 1_000, 10**6)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = helpers()
        live.update(events)
        os.write(writer, live.output().numpy().tobytes() if len(helpers() - before) == 2 else b"no threads")
        os._exit(0)
    os.close(writer)
    found = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
    os.close(reader)
    os.waitpid(child, 0)
    live.update(events)
    assert found == live.output().numpy().tobytes()


@kernel
def _claim(words: np.ndarray) -> int:
    return pipeline.claim(words)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_a_fork_leave_a_job_of_the_parent_alone(threads: int) -> None:
    """Its memory may be gone, and those who would finish it are not there."""
    forked = crew.Crew(threads, 1, lambda words, member: None)
    forked._process = os.getppid()
    words = forked.words
    words[pipeline._LIMIT], words[pipeline._NEXT], words[pipeline.DONE] = 12, 7, 5
    forked.begin()
    assert _claim(words) == -1
    assert words[pipeline.DONE] == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_fork_answers_though_its_parent_was_at_work_on_an_answer(threads: int) -> None:
    module = randomize(network("histogram", sensor=SENSOR, num_classes=3, task="detection"), 0)
    live = make_model_asynchronous(module, RULES["window"], threads=threads)
    events = random_events(np.random.default_rng(0), 2_000)
    live.update(events[:1_000])
    live.output()
    child = os.fork()
    if child == 0:
        end_after(20)
        words = live.engine._head._crew.words
        words[pipeline.DONE] -= 1
        words[pipeline._NEXT] -= threads > 1
        live.engine._head._is_unfinished = True
        live.update(events[1_000:])
        fresh = make_model_asynchronous(module, RULES["window"])
        fresh.update(events)
        os._exit(0 if torch.equal(live.output(), fresh.output()) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_copies_have_as_many_threads(live: LiveModel) -> None:
    copied = copy.deepcopy(live)
    assert copied.threads == 3
    assert "threads=3" in repr(copied)
    events = random_events(np.random.default_rng(1), 500, 10**6)
    for one in (live, copied):
        one.update(events)
    assert torch.equal(copied.output(), live.output())
    assert live.runtime().layers["waiting for other threads"].total >= 0


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", 65])
def test_a_number_that_is_none_of_threads_is_refused(threads: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module = network("graph_res", dataset="nmnist", sensor=SENSOR)
    with pytest.raises(ValueError, match="threads must be a whole number from 1 to 64, found"):
        make_model_asynchronous(module, threads=threads)  # type: ignore[arg-type]
    monkeypatch.setenv("AEGNN_THREADS", "all")
    with pytest.raises(ValueError, match="AEGNN_THREADS must be a whole number from 1 to 64, found 'all'"):
        make_model_asynchronous(module)


def test_the_environment_says_how_many_where_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network("graph_res", dataset="nmnist", sensor=SENSOR)
    monkeypatch.setenv("AEGNN_THREADS", "2")
    assert make_model_asynchronous(module).threads == 2
    assert make_model_asynchronous(module, threads=1).threads == 1
    assert make_model_asynchronous(module, engine="packet").threads == 1, "it has no use for a second"
    monkeypatch.delenv("AEGNN_THREADS")
    assert make_model_asynchronous(module).threads == 1


@kernel
def _pass_packet(words: np.ndarray, events: np.ndarray, table: np.ndarray, in_vain: bool) -> tuple[int, bool]:
    """What the packet's thread does with the words; the number of blocks, and whether it wanted to share them."""
    first, behind, shared = pipeline.publish(words, events, 0, 0, table, 10)
    patient = shared
    if shared:
        while pipeline.claim(words) >= 0:
            behind += 1
    if shared and in_vain:
        pipeline.lose_patience(words)
        patient = False
    pipeline.finish(words, behind - 1, words[pipeline.STAGES] - 1)
    pipeline.await_end(words, 0, 0, 1, patient)
    return behind - first, shared


def test_whoever_waits_for_threads_in_vain_works_alone_for_longer_and_longer() -> None:
    words = np.zeros(pipeline.WORDS, np.int64)
    words[pipeline.THREADS], words[pipeline.STAGES], words[pipeline.PATIENCE_NS] = 2, 3, 10**12
    packet, small, table = np.zeros(95, EVENT_DTYPE), np.zeros(18, EVENT_DTYPE), np.zeros((1, 2), np.int64)
    assert _pass_packet(words, packet, table, False) == (12, True)
    assert _pass_packet(words, small, table, False) == (2, False), "what is small nobody shares"
    for alone in (1, 3, 7):
        assert _pass_packet(words, packet, table, True) == (12, True)
        for _ in range(alone):
            assert _pass_packet(words, small, table, True) == (2, False)
            assert _pass_packet(words, packet, table, True) == (12, False)
    for _ in range(3):
        assert _pass_packet(words, packet, table, False) == (12, True), "they are there again"


def test_a_wait_is_too_long_if_sharing_saves_less() -> None:
    words = np.zeros(pipeline.WORDS, np.int64)
    words[pipeline.THREADS], words[pipeline.PATIENCE_NS] = 2, 10**9
    pipeline.begin_job(words, 12)
    now, second = time.monotonic_ns(), 10**9
    # One block took a second: all of them take 12, of which a quarter are 3.
    assert not pipeline.is_too_long(words, 2 * second, now - 3 * second, 1)
    assert pipeline.is_too_long(words, 4 * second, now - 5 * second, 1)
    words[pipeline.PATIENCE_NS] = 5 * second
    assert not pipeline.is_too_long(words, 4 * second, now - 5 * second, 1)


def test_no_more_threads_work_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_events(np.random.default_rng(0), 1_000)
    for cores_ in (1, 2):
        monkeypatch.setattr(crew, "usable_cores", lambda cores_=cores_: cores_)
        before = helpers()
        live = make("graph_res", RULES["window"], 3)
        live.update(events)
        assert len(helpers() - before) == cores_ - 1
        assert torch.isfinite(live.output()).all()


def test_threads_stay_off_the_core_of_the_caller_wherever_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take turns with it: Linux wakes a thread on the core that it is woken from where cores are few."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("this process may use one core only")
    library, core = crew._library(), -1
    feigned = SimpleNamespace(sched_getcpu=lambda: core, sem_init=library.sem_init, sem_post=library.sem_post)
    monkeypatch.setattr(crew, "_library", lambda: feigned)
    before = helpers()
    live = make("graph_res", RULES["window"], 3)
    for turn, core in enumerate(sorted(allowed)):
        live.update(random_events(np.random.default_rng(turn), 1_000, turn * 10**6))
        own = [thread.native_id for thread in helpers() - before]
        assert own
        assert all(os.sched_getaffinity(number) == allowed - {core} for number in own if number)


V1 = "cpu/a/cpu.cfs_quota_us", "cpu/a/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/a\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/not/mounted/here\n", {"cpu.max": "100000 100000"}, 1),
    ],
)
def test_the_quota_of_a_control_group_is_read(tmp_path: Path, groups: str, files: dict[str, str], quota: float) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(text)
    assert cores._quota(tmp_path / "cgroup", tmp_path / "mounted") == quota
    assert 1 <= cores.usable_cores() <= (os.cpu_count() or 1)


def test_threads_that_cannot_be_started_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    one, many = (make("graph_res", RULES["window"], threads) for threads in (1, 3))

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    events = random_events(np.random.default_rng(0), 1_000)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(UserWarning, match="1 of 3 work, no more could be started"):
        many.update(events)
    one.update(events)
    assert torch.equal(one.output(), many.output())


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (2, 1), (4, 3), (9, 8), (64, 8)])
def test_as_many_threads_are_taken_as_are_of_use(usable: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: usable)
    assert threads.spare_cores() == expected
