"""Running locust: what is refused, how a run is judged, and one real short run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loadtest.run import attack, is_ours, locust_command, parse
from loadtest.servers import Server, Target, free_port
from loadtest.summary import Row, Summary, read_summary


def a_summary(requests: int, failures: int) -> Summary:
    return Summary([Row("/rta/json", requests, failures, 2.0, 9.0)], {"late": failures}, 0.02)


@pytest.mark.parametrize(
    "argv",
    [
        ["--host", "http://192.0.2.1:8000"],
        ["--host", "nonsense"],
        ["--users", "501"],
        ["--users", "0"],
        ["--seconds", "3601"],
        ["--shape", "cliff"],
    ],
)
def test_foreign_hosts_and_loads_without_bounds_are_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(argv)

    assert refused.value.code == 2
    assert argv[1] in capsys.readouterr().err or argv[0] in {"--users", "--seconds"}


def test_a_foreign_host_needs_an_owner() -> None:
    options = parse(["--host", "http://192.0.2.1:8000", "--i-own-this-target"])

    assert options.host == "http://192.0.2.1:8000"


def test_only_the_loopback_is_ours() -> None:
    assert is_ours("http://127.0.0.1:8000")
    assert is_ours("http://[::1]:8000")
    assert not is_ours("http://example.org")


def test_the_options_reach_locust(tmp_path: Path) -> None:
    options = parse(["--shape", "spike", "--open-loop", "--platform", "tencent"])

    command = locust_command(options, "http://127.0.0.1:1", tmp_path)

    assert command[command.index("--rta-shape") + 1] == "spike"
    assert "--rta-open-loop" in command
    assert command[-1] == "TencentUser"


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (2, 0), (3, 1)])
def test_the_exit_code_follows_the_failure_share(failures: int, code: int) -> None:
    summary = a_summary(100, failures)

    assert summary.exit_code == code
    assert f"failure share {failures}.00%, limit 2.00%" in summary.lines()[-1]


def test_a_run_without_requests_failed() -> None:
    assert a_summary(0, 0).exit_code == 1


def test_a_summary_survives_its_file(tmp_path: Path) -> None:
    summary = a_summary(10, 1)

    summary.write(tmp_path / "summary.json")

    assert read_summary(tmp_path / "summary.json") == summary


@pytest.mark.parametrize("open_loop", [[], ["--open-loop"]], ids=["closed", "open"])
def test_a_server_that_gives_one_answer_to_all_fails_tencent_and_passes_nothing_by_luck(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], open_loop: list[str]
) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "loadtest.constant:app", "--port", str(port)]
    report = tmp_path / "report.html"
    options = parse(
        ["--seconds", "3", "--users", "4", "--shape", "step", "--html", str(report), *open_loop]
    )

    with Server(Target("constant", argv, port), tmp_path / "server.log"):
        code = attack(options, f"http://127.0.0.1:{port}", tmp_path, ["0" * 31 + "1"])

    said = capsys.readouterr().out
    assert code == 1
    assert "invalid: not an RtaResponse" in said
    assert "invalid: not the contract's answer" in said
    assert "failure share 100.00%" in said
    assert report.stat().st_size > 10_000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {row["name"] for row in summary["rows"]} == {"/rta/json", "/rta/tencent"}
    assert sum(row["requests"] for row in summary["rows"]) > 20


def test_a_locust_that_fails_is_shown_with_its_last_words(tmp_path: Path) -> None:
    options = parse(["--html", str(tmp_path / "report.html")])
    options.shape = "--no-such-option"

    with pytest.raises(RuntimeError, match="rta-shape"):
        attack(options, "http://127.0.0.1:1", tmp_path, [])


def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no configuration')"]

    with (
        pytest.raises(RuntimeError, match="no configuration"),
        Server(Target("broken", argv, free_port()), tmp_path / "log"),
    ):
        pass


def test_a_paused_server_is_stopped_all_the_same(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with Server(Target("files", argv, port), tmp_path / "log") as server:
        server.pause()
        process = server._process
        assert process is not None
        state = Path(f"/proc/{process.pid}/stat")
        until = time.monotonic() + 5  # the kernel delivers the signal in its own time
        while state.read_text().split()[2] not in "tT":
            assert time.monotonic() < until

    assert process.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_the_pure_parts_do_not_import_locust() -> None:
    modules = "checks, payloads, shapes, summary, run, bench, generate, servers"
    code = f"import sys; from loadtest import {modules}; assert 'gevent' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_counts_as_started_when_it_says_that_it_is_ready(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    argv += ["--directory", str(tmp_path)]
    make_ready = threading.Timer(0.5, (tmp_path / "readyz").write_text, ["yes"])
    make_ready.start()
    started = time.monotonic()

    with Server(Target("files", argv, port, ready_path="/readyz"), tmp_path / "log"):
        waited = time.monotonic() - started

    make_ready.join()
    assert waited > 0.5
