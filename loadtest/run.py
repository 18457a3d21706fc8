"""Run the locust scenarios, headless and bounded, against a service started for it or a given one.

    python -m loadtest.run [--shape ramp|step|spike] [--users 20] [--seconds 30] [--open-loop]

Ends with 0 only if no more than --max-failure-share of the answers were late or wrong.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from loadtest.prepare import READY_PATH, prepare
from loadtest.servers import Server, Target
from loadtest.shapes import SHAPES
from loadtest.summary import read_summary
from rta_service.simulation.client import is_loopback

MAX_USERS: Final = 500
MAX_SECONDS: Final = 3_600
_PATIENCE_S: Final = 60
"""How long locust may take beyond its run to start and to end."""

_SCENARIOS: Final = Path(__file__).with_name("locustfile.py")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options; refuses targets that are not ours and loads without bounds."""
    parser = argparse.ArgumentParser(prog="loadtest.run", description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="ramp")
    parser.add_argument("--users", type=int, default=20, help=f"at most, up to {MAX_USERS}")
    parser.add_argument("--seconds", type=int, default=30, help=f"up to {MAX_SECONDS}")
    parser.add_argument("--user-rate", type=float, default=20.0, help="requests a second a user")
    parser.add_argument("--platform", choices=["json", "tencent", "all"], default="all")
    parser.add_argument("--open-loop", action="store_true", help="keep an absolute schedule")
    parser.add_argument("--max-failure-share", type=float, default=0.02)
    parser.add_argument(
        "--html", type=Path, default=Path(__file__).parent / "reports" / "report.html"
    )
    parser.add_argument("--host", help="a service that runs already, e.g. http://127.0.0.1:8000")
    parser.add_argument(
        "--i-own-this-target", action="store_true", help="allow a --host off the loopback"
    )
    options = parser.parse_args(argv)
    if options.host and not options.i_own_this_target and not is_ours(options.host):
        parser.error(f"{options.host} is not this machine; --i-own-this-target says it is yours")
    if not (0 < options.users <= MAX_USERS and 0 < options.seconds <= MAX_SECONDS):
        parser.error(f"1 to {MAX_USERS} users and 1 to {MAX_SECONDS} seconds")
    return options


def is_ours(host: str) -> bool:
    """Tell whether a URL points at this machine's loopback."""
    name = urlsplit(host).hostname
    return name is not None and is_loopback(name)


def locust_command(options: argparse.Namespace, host: str, folder: Path) -> list[str]:
    """Write the locust command line of a run."""
    classes = {"json": ["JsonUser"], "tencent": ["TencentUser"], "all": []}[options.platform]
    return [
        *(sys.executable, "-m", "locust", "-f", str(_SCENARIOS), "--headless"),
        *("--host", host, "--html", str(options.html), "--only-summary", "--loglevel", "WARNING"),
        *("--rta-shape", options.shape, "--rta-users", str(options.users)),
        *("--rta-seconds", str(options.seconds), "--rta-user-rate", str(options.user_rate)),
        *("--rta-devices", str(folder / "devices.txt")),
        *("--rta-summary", str(folder / "summary.json")),
        *("--max-failure-share", str(options.max_failure_share)),
        *(["--rta-open-loop"] if options.open_loop else []),
        *classes,
    ]


def attack(options: argparse.Namespace, host: str, folder: Path, md5s: Sequence[str]) -> int:
    """Run locust against a host, print what came of it, and return the exit code."""
    (folder / "devices.txt").write_text("\n".join(md5s), encoding="utf-8")
    options.html.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        locust_command(options, host, folder),
        check=False,  # locust's own code says less than the summary
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=options.seconds + _PATIENCE_S,
        cwd=_SCENARIOS.parent.parent,
    )
    try:
        summary = read_summary(folder / "summary.json")
    except FileNotFoundError as error:
        raise RuntimeError(f"locust ended without a summary:\n{done.stderr[-2_000:]}") from error
    print(*summary.lines(), f"report: {options.html}", sep="\n")
    return summary.exit_code


def main() -> None:
    """Start a service unless one is given, and attack it."""
    options = parse()
    options.html = options.html.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.host:
            sys.exit(attack(options, options.host, folder, []))
        world = prepare(folder)
        service = Target("service", world.service.argv, world.service.port, ready_path=READY_PATH)
        try:
            with Server(service, folder / "service.log"):
                host = f"http://127.0.0.1:{service.port}"
                code = attack(options, host, folder, world.md5s)
        finally:
            world.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
