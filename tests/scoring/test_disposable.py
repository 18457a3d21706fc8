"""Whatever untrusted input does to it, the process that asked lives and is told what happened."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.scoring.disposable import DisposableProcess, ProcessEnded
from rta_service.scoring.disposable_child import (
    CHECK_OBJECT,
    SURROUNDINGS,
    ProcessLimits,
    Request,
)
from rta_service.scoring.flat_forest import FlatForest

PutModel = Callable[..., ModelRef]


@pytest.fixture
def process() -> Iterator[DisposableProcess]:
    with DisposableProcess() as made:
        yield made


@pytest.fixture
def hanging(put_model: PutModel, model_forest: FlatForest, tmp_path: Path) -> dict[str, Any]:
    """A model that goes round in circles; no validator let it through."""
    forest = replace(
        model_forest,
        left=np.zeros_like(model_forest.left),
        right=np.zeros_like(model_forest.right),
    )
    return {"folder": str(tmp_path), "ref": msgspec.to_builtins(put_model(forest=forest))}


@pytest.fixture
def crashing(put_model: PutModel, model_forest: FlatForest, tmp_path: Path) -> dict[str, Any]:
    """A model whose first children are far outside of its tree."""
    forest = replace(model_forest, left=np.full_like(model_forest.left, 999_999_999))
    return {"folder": str(tmp_path), "ref": msgspec.to_builtins(put_model(forest=forest))}


def test_one_child_answers_many_calls(process: DisposableProcess) -> None:
    pids = {process.call(SURROUNDINGS, {}, 30)["pid"] for _ in range(20)}

    assert len(pids) == process.starts == 1
    assert pids != {os.getpid()}


def test_a_child_knows_no_setting_and_may_take_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RTA_PEPPER", "secret")
    limits = ProcessLimits(memory_bytes=1 << 30, file_bytes=1 << 20, open_files=32)

    with DisposableProcess(limits) as process:
        found = process.call(SURROUNDINGS, {}, 30)

    assert [name for name in found["environment"] if name.startswith("RTA_")] == []
    assert found["limits"]["RLIMIT_AS"] == [1 << 30, 1 << 30]
    assert found["limits"]["RLIMIT_FSIZE"] == [1 << 20, 1 << 20]
    assert found["limits"]["RLIMIT_NOFILE"] == [32, 32]
    assert found["limits"]["RLIMIT_CORE"] == [0, 0]


def test_a_refusal_is_told_in_its_own_words_and_the_child_goes_on(
    process: DisposableProcess, tmp_path: Path
) -> None:
    ref = {"name": "register", "version": "v1", "sha256": "0" * 64}

    with pytest.raises(ModelRefused, match=r"register v1: \S+\.forest: can't be read") as refusal:
        process.call(CHECK_OBJECT, {"folder": str(tmp_path), "ref": ref}, 30)
    process.call(SURROUNDINGS, {}, 30)

    assert not isinstance(refusal.value, ProcessEnded)
    assert process.starts == 1


def test_a_crash_is_named_by_its_signal_and_the_next_call_starts_another(
    process: DisposableProcess, crashing: dict[str, Any]
) -> None:
    with pytest.raises(ProcessEnded, match="was killed by SIG"):
        process.call(CHECK_OBJECT, crashing, 60)

    assert process.call(SURROUNDINGS, {}, 30)["pid"] != os.getpid()
    assert process.starts == 2


def test_a_child_that_hangs_is_killed_when_its_time_is_over(
    process: DisposableProcess, hanging: dict[str, Any]
) -> None:
    pid = process.call(SURROUNDINGS, {}, 30)["pid"]
    begun_s = time.monotonic()

    with pytest.raises(ProcessEnded, match=r"still busy after 2 s, and killed"):
        process.call(CHECK_OBJECT, hanging, 2)

    assert time.monotonic() - begun_s < 10
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_whose_parent_died_ends_when_its_processor_time_is_over(
    hanging: dict[str, Any],
) -> None:
    command = [sys.executable, "-m", "rta_service.scoring.disposable_child", "{}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        line = msgspec.json.encode(Request(CHECK_OBJECT, hanging, cpu_s=1)) + b"\n"
        child.communicate(line, timeout=60)

    assert child.returncode == -signal.SIGXCPU


def test_each_call_has_processor_time_of_its_own(process: DisposableProcess) -> None:
    limits = [
        process.call(SURROUNDINGS, {}, timeout_s)["limits"]["RLIMIT_CPU"][0]
        for timeout_s in (20, 100)
    ]

    assert limits[1] - limits[0] == 80


def test_too_little_memory_is_named(put_model: PutModel, tmp_path: Path) -> None:
    arguments = {"folder": str(tmp_path), "ref": msgspec.to_builtins(put_model())}

    with (
        DisposableProcess(ProcessLimits(memory_bytes=90 << 20)) as process,
        pytest.raises(ProcessEnded, match=r"ended with 1 \(.*(memory|Memory|map segment)"),
    ):
        process.call(CHECK_OBJECT, arguments, 60)


def test_an_unforeseen_error_ends_the_child_and_is_named(process: DisposableProcess) -> None:
    with pytest.raises(ProcessEnded, match=r"ended with 1 \(TypeError: .* 'surprise'"):
        process.call(SURROUNDINGS, {"surprise": 1}, 30)

    assert process.call(SURROUNDINGS, {}, 30)["pid"]


def test_a_child_that_was_killed_between_calls_is_replaced(process: DisposableProcess) -> None:
    first = process.call(SURROUNDINGS, {}, 30)["pid"]
    os.kill(first, signal.SIGKILL)
    while Path(f"/proc/{first}/stat").read_text().split()[2] != "Z":
        time.sleep(0.001)

    assert process.call(SURROUNDINGS, {}, 30)["pid"] != first


def test_calls_of_many_threads_wait_for_one_another(process: DisposableProcess) -> None:
    pids: list[int] = []
    threads = [
        threading.Thread(target=lambda: pids.append(process.call(SURROUNDINGS, {}, 30)["pid"]))
        for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(pids) == 8
    assert len(set(pids)) == 1


@pytest.mark.parametrize("function", ["os:system", "rta_service.scoring.check:check_models", ""])
def test_nothing_but_the_list_may_be_asked_for(process: DisposableProcess, function: str) -> None:
    with pytest.raises(ValueError, match="not on the list"):
        process.call(function, {"command": "true"}, 30)

    assert process.starts == 0


def test_the_child_keeps_to_the_list_whoever_asks() -> None:
    command = [sys.executable, "-m", "rta_service.scoring.disposable_child", "{}"]
    line = msgspec.json.encode(Request("os:getpid", {}, cpu_s=5)) + b"\n"

    child = subprocess.run(command, input=line, capture_output=True, timeout=60, check=False)

    assert child.returncode == 1
    assert b"os:getpid is not on the list" in child.stderr


def test_what_does_not_fit_a_pipe_is_not_sent(process: DisposableProcess) -> None:
    with pytest.raises(ValueError, match="hand it a file"):
        process.call(SURROUNDINGS, {"rows": "0" * 100_000}, 30)


def test_what_native_code_prints_is_no_answer(process: DisposableProcess) -> None:
    pid = process.call(SURROUNDINGS, {}, 30)["pid"]

    output, errors = (Path(f"/proc/{pid}/fd/{number}").readlink() for number in (1, 2))

    assert output == errors


def test_a_closed_process_leaves_no_child() -> None:
    process = DisposableProcess()
    pid = process.call(SURROUNDINGS, {}, 30)["pid"]

    process.close()

    assert not Path(f"/proc/{pid}").exists()
