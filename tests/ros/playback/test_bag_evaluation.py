# SPDX-License-Identifier: Apache-2.0
"""Bags are played with their own time, and evaluated against their labels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rosgraph_msgs.msg import Clock

from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import RecordedPacket, write_event_bag
from aegnn_ros.conversions import nanoseconds, time_message
from aegnn_ros.playback.bag_evaluation import main
from aegnn_ros.playback.packet_replay import DRIVER_QOS
from tests.ros.conftest import PATIENT, Conversation, conversation, spinning_node, start_player

CAR = np.array([(10, 20, 30, 40, 0)], LABEL_DTYPE)


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegnn_ros.playback.bag_evaluation", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150)


@pytest.mark.real_time(reason="latencies are measured, and no packet may be lost at four times the speed")
def test_boxes_in_a_bag_give_precision_latency_and_share_per_rate(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    labels = [Label(stamp, boxes=CAR) for stamp in range(0, 1_000_000_000, 20_000_000)]
    write_event_bag(tmp_path / "bag", packets, labels=labels)
    options = ["--rates", 2, 4, "--downsampling", "coordinates", "--output", tmp_path / "out"]
    run = evaluate(tmp_path / "bag", "--model", models["detection"], *options)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["rate"] for row in report["rates"]] == [2.0, 4.0]
    assert (report["downsampling"], report["model_sensor"]) == ("coordinates", "filled")
    for row in report["rates"]:
        assert (row["packets"], row["packets_lost"]) == (len(packets), 0)
        assert row["events"] == 20_000
        assert 0 < row["processed_share"] <= 1
        assert 0 <= row["ap"] <= row["ap50"] <= 1  # of an untrained model
        assert row["accuracy"] is None
        assert 0 < row["labelled"] <= row["results"]
        assert 0 < row["result_latency_ms"]["p50"] <= row["result_latency_ms"]["p99"]
        assert row["packet_latency_ms"]["p50"] > row["result_latency_ms"]["p50"] / 2
    assert Image.open(tmp_path / "out" / "evaluation.png").size[0] > 500


def test_a_class_in_a_bag_gives_accuracy(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the names of files are printed as they are."""
    write_event_bag(tmp_path / "bag", packets[:40], labels=[Label(0, class_id=1)])
    folder = tmp_path / "[left]"
    arguments = (tmp_path / "bag", "--model", models["recognition"], "--rates", 1, "--output", folder)
    assert main(["evaluate_bag", *map(str, arguments)]) == 0
    (row,) = json.loads((folder / "evaluation.json").read_text())["rates"]
    assert row["accuracy"] in (0.0, 1.0)  # an untrained network says the same of everything
    assert row["ap"] is None
    printed = capsys.readouterr().out
    assert "no labels" not in printed
    assert f"Saved {folder}/evaluation.json" in printed


def test_the_table_is_printed_even_if_the_files_cannot_be_written_any_more(
    models: dict[str, Path],
    packets: list[RecordedPacket],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", fail)
    write_event_bag(tmp_path / "bag", packets[:40])
    arguments = (tmp_path / "bag", "--model", models["detection"], "--rates", 2, "--output", tmp_path)
    assert main(["evaluate_bag", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.err == "evaluate_bag: no space left\n"
    assert "detection through ROS 2" in printed.out
    assert "x2" in printed.out


def test_files_that_cannot_be_written_are_refused_before_the_bag_is_played(
    packets: list[RecordedPacket], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("aegnn_ros.playback.bag_evaluation.BagRunner")
    write_event_bag(tmp_path / "bag", packets[:3])
    (tmp_path / "evaluation.json").mkdir()
    assert main(["evaluate_bag", str(tmp_path / "bag"), "--output", str(tmp_path)]) == 2
    assert "evaluation.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/no/such/bag"], "/no/such/bag"),
        (["{bag}", "--model", "no_such_model"], "unknown model 'no_such_model'"),
        (["{bag}", "--topic", "/none"], "no event topic '/none'"),
        (["{bag}", "--labels", "/event_camera/events"], "expected vision_msgs/msg/Detection2DArray"),
        (["{bag}", "--labels", "/lables"], "has no topic /lables"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    packets: list[RecordedPacket],
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_event_bag(tmp_path / "bag", packets[:3])
    assert main(["evaluate_bag", *(argument.format(bag=tmp_path / "bag") for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evaluate_bag: ")
    assert complaint in line


@pytest.mark.parametrize(("option", "expected"), [("--rates", "from 0.001 to 1000"), ("--max-latency-ms", "above 0")])
@pytest.mark.parametrize("number", ["0", "-1", "nan", "fast"])
def test_rates_and_latencies_are_above_0(
    option: str, expected: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate_bag", "/no/such/bag", option, number])
    assert ended.value.code == 2
    assert f"argument {option}: expected a number {expected}, found {number!r}" in capsys.readouterr().err


def test_a_bag_that_loops_at_twice_its_speed_drives_a_node_in_sim_time(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    """The clock jumps back at every start: that is one reset each, and results go on in the bag's time."""
    write_event_bag(tmp_path / "bag", packets)
    begin_ns, end_ns = packets[0].stamp, packets[-1].received
    parameters = {"model": str(models["detection"]), "use_sim_time": True, "score_threshold": 0.0, "max_detections": 5}
    with conversation(parameters | PATIENT) as talk:
        assert talk.configure(), talk.process.log()
        talk.activate()
        player = start_player(tmp_path / "bag", "--rate", 2, "--loop")
        try:
            talk.wait(lambda: player.poll() is not None or int(next_values(talk)["resets"]) >= 2)
        finally:
            player.send_signal(signal.SIGINT)
            output, _ = player.communicate(timeout=20)
        assert player.returncode == 0, output + talk.process.log()
        # Once per start of the bag, although sequence, sensor time and stamps all jump; the last may not have come far.
        values, rounds = next_values(talk), output.count("played 100 packets")
        assert rounds - 1 <= int(values["resets"]) <= rounds
        assert values["packets_lost"] == "0"
        times = [nanoseconds(message.header.stamp) for message in talk.received["detections"]]
        assert begin_ns <= min(times)
        assert max(times) <= end_ns + 100_000_000
        # A busy machine may not get to a result in every round.
        assert 1 <= sum(b < a for a, b in pairwise(times)) <= int(values["resets"])


def test_a_clock_that_jumps_in_sim_time_resets_the_graph_once_and_results_go_on(
    models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    """Another bag is played after the first, an hour later, and then the first again."""
    parameters = {"model": str(models["detection"]), "use_sim_time": True, "score_threshold": 0.0, "max_detections": 5}
    with conversation(parameters | PATIENT) as talk:
        clock = talk.node.create_publisher(Clock, "/clock", 1)
        assert talk.configure(), talk.process.log()
        talk.activate()
        talk.wait(clock.get_subscription_count)
        for resets, begin_s in enumerate((7200, 10800, 7200)):
            talk.forget()
            for packet in packets[:40]:
                now = begin_s * 10**9 + packet.received
                clock.publish(Clock(clock=time_message(now)))
                talk.play_one(packet, begin_s * 10**9 + packet.stamp)
                time.sleep(0.01)
            assert next_values(talk)["resets"] == str(resets)
            times = [nanoseconds(message.header.stamp) / 1e9 for message in talk.received["detections"]]
            assert times
            assert begin_s < times[-1] < begin_s + 1


def next_values(talk: Conversation) -> dict[str, str]:
    """What diagnostics say after most of a second, whatever the node's clock does."""
    statuses = talk.received["diagnostics"]
    count = len(statuses)
    talk.wait(lambda: len(statuses) > count + 3)
    return {value.key: value.value for value in statuses[-1].status[0].values}


def test_a_player_that_waits_for_a_subscriber_ends_on_a_signal(packets: list[RecordedPacket], tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", packets[:3])
    player = start_player(tmp_path / "bag")
    assert player.stdout is not None
    assert "waiting for a subscriber" in player.stdout.readline()
    time.sleep(0.2)
    player.terminate()
    player.communicate(timeout=20)
    assert player.returncode == 0


def test_a_player_that_waits_tells_the_time_to_everyone_who_comes(
    packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets[:3])
    with spinning_node() as node:
        player = start_player(tmp_path / "bag")
        try:
            assert player.stdout is not None
            assert "waiting for a subscriber" in player.stdout.readline()
            for _ in range(2):
                told: list[Clock] = []
                node.create_subscription(Clock, "/clock", told.append, DRIVER_QOS)
                deadline = time.monotonic() + 20
                while len(told) < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                assert {nanoseconds(message.clock) for message in told} == {packets[0].received}
        finally:
            player.terminate()
            player.communicate(timeout=20)


def test_a_bag_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    player = start_player(tmp_path / "nothing")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 2
    assert output.startswith(f"play_events: {tmp_path / 'nothing'}: no such file")
