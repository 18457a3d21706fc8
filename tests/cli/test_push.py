"""Models pushed, signed and published from the command line."""

import hashlib
import json
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from rta_service.cli import commands
from rta_service.cli.app import EXIT_WRONG_INPUT, app as command_tree
from rta_service.demo.world import World
from rta_service.domain.errors import DegradedError, Fault, InvalidInput
from rta_service.domain.funnel import Step
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.releasing.verdicts import Verdict
from rta_service.scoring.bundle import unpack
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.gates import Gate
from rta_service.scoring.manifest import Evaluation, ModelManifest
from rta_service.scoring.signature import read_trusted, verify

assert commands.push is not None  # importing it hangs the subcommands in

Rta = Callable[..., Any]

VERDICT = Verdict(
    upload_id="u1-ab",
    name="register",
    version="v2",
    by="token:ci",
    at_ms=1,
    why="",
    accepted=False,
    reason="auc: 0.5, must be >= 0.55 (9 rows)",
    seconds=1.5,
    gates=(
        Gate("bundle", "passed", 12.0, "<= 300 bytes", "model.txt"),
        Gate("auc", "failed", 0.5, ">= 0.55", "[9 rows]"),
        Gate("store", "not_reached"),
    ),
    faults=(Fault(3, 1, "left_child", "is a cycle"),),
)


@pytest.fixture
def rta(tmp_path: Path) -> Rta:
    """Give a function that runs `rta` on a data folder of its own."""

    def call(*words: object, **environment: str) -> Any:
        arguments = [str(word) for word in words]
        settings = {"RTA_DATA_DIR": str(tmp_path / "data"), "RTA_REDIS_URL": None, **environment}
        result = CliRunner().invoke(command_tree, arguments, env=settings)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trained folder with an older and a newer version of a model, good enough to be sent."""
    for version, made in (("v1", 1), ("v2", 2)):
        path = tmp_path / "trained" / "register" / version
        path.mkdir(parents=True)
        (path / "model.txt").write_text("tree\n")
        (path / "golden.json").write_text("{}")
        manifest = ModelManifest(
            name="register",
            version=version,
            goal=Step.REGISTER,
            given=Step.CLICK,
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=1,
            trained_from_s=1,
            trained_to_s=2,
            rows=3,
            positives=1,
            evaluation=Evaluation(3, 1, 0.5, 0.5, 1.0),
            sha256=hashlib.sha256(b"tree\n").hexdigest(),
            calibration=Calibration((0.0, 1.0), (0.0, 1.0)),
            seed=1,
            lightgbm_version="4.7.0",
            created_at_ms=made,
        )
        (path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return tmp_path / "trained"


class ControlPort(HTTPServer):
    """Stands for a service's control port: keeps what it was sent, and gives one answer."""

    status = 201
    answer: bytes = b""
    path = ""
    token = ""
    body = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: ControlPort

    def do_POST(self) -> None:
        self.server.path = self.path
        self.server.token = self.headers["Authorization"]
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[ControlPort]:
    with ControlPort(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret-token\n")
    return tmp_path / "token"


def test_a_key_is_made_for_its_owner_and_its_line_is_what_a_service_trusts(
    rta: Rta, tmp_path: Path, folder: Path
) -> None:
    line = rta("models", "keygen", tmp_path / "key", "--name", "growth_team").stdout
    (tmp_path / "keys").write_text(line)

    signing = rta("models", "sign", folder, "--key", tmp_path / "key").stdout

    newest = folder / "register" / "v2"
    trusted = read_trusted(tmp_path / "keys")
    assert line.endswith(f"  # {next(iter(trusted))}\n")
    assert f"with {next(iter(trusted))}" in signing
    signed = (newest / "signature.json").read_bytes()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert verify((newest / "manifest.json").read_bytes(), signed, trusted).name == "growth_team"
    assert not (folder / "register" / "v1" / "signature.json").exists()
    with pytest.raises(InvalidInput, match="can't be made"):
        rta("models", "keygen", tmp_path / "key")
    with pytest.raises(InvalidInput, match="not one plain word"):
        rta("models", "keygen", tmp_path / "other", "--name", "two words")


def test_a_model_is_sent_signed_and_the_verdict_comes_back(
    rta: Rta, tmp_path: Path, folder: Path, port: ControlPort, token: Path
) -> None:
    (tmp_path / "keys").write_text(rta("models", "keygen", tmp_path / "key").stdout)
    good = msgspec.structs.replace(VERDICT, accepted=True, reason="", faults=())
    port.answer = msgspec.json.encode({"verdict": good.to_json()})
    words = ("--url", port.url, "--token-file", token, "--key", tmp_path / "key", "--why", "a & b")

    result = rta("models", "push", folder, *words)

    (tmp_path / "sent.tar").write_bytes(port.body)
    (tmp_path / "into").mkdir()
    sent = unpack(tmp_path / "sent.tar", tmp_path / "into")
    assert result.exit_code == 0
    assert result.stdout.startswith("register v2: accepted in 1.5 s, verdict u1-ab")
    assert port.path == "/v1/models/register/versions?why=a+%26+b"
    assert port.token == "Bearer secret-token"
    verify(sent.read("manifest.json"), sent.read("signature.json"), read_trusted(tmp_path / "keys"))
    assert sent.read("manifest.json") == (folder / "register/v2/manifest.json").read_bytes()
    assert not (folder / "register/v2/signature.json").exists()


def test_a_refusal_shows_the_gates_reached_and_the_faults(
    rta: Rta, folder: Path, port: ControlPort, token: Path
) -> None:
    port.status = 422
    port.answer = msgspec.json.encode({"status": 422, "verdict": VERDICT.to_json()})
    words = ("models", "push", folder / "register" / "v2", "--url", port.url, "--token-file", token)

    told, as_json = rta(*words), rta(*words, "--json")

    assert told.exit_code == as_json.exit_code == EXIT_WRONG_INPUT
    assert "REFUSED" in told.stdout
    assert "[9 rows]" in told.stdout
    assert "1 later gates were not reached" in told.stdout
    assert "line 3, tree 1, left_child: is a cycle" in told.stdout
    sent = msgspec.json.decode(msgspec.json.encode(VERDICT.to_json()))
    assert json.loads(as_json.stdout)["verdicts"] == [sent]


@pytest.mark.parametrize(
    ("status", "answer", "error", "words"),
    [
        (401, {"detail": "unknown token"}, InvalidInput, "versions: 401: unknown token"),
        (413, {"title": "too large"}, InvalidInput, "413: too large"),
        (503, {"detail": "the store is away"}, DegradedError, "503: the store is away"),
        (200, "no object", DegradedError, "no answer of a control port"),
    ],
)
def test_other_answers_become_errors_with_their_words(
    status: int,
    answer: object,
    error: type[Exception],
    words: str,
    *,
    rta: Rta,
    folder: Path,
    port: ControlPort,
    token: Path,
) -> None:
    port.status, port.answer = status, msgspec.json.encode(answer)

    with pytest.raises(error, match=words):
        rta("models", "push", folder, "--url", port.url, "--token-file", token)


def test_what_can_not_be_sent_is_named(rta: Rta, folder: Path, tmp_path: Path, token: Path) -> None:
    nobody = ("--url", "http://127.0.0.1:9", "--token-file")

    with pytest.raises(DegradedError, match="no answer of a control port"):
        rta("models", "push", folder, *nobody, token)
    with pytest.raises(InvalidInput, match="--token-file: is needed with --url"):
        rta("models", "push", folder, *nobody[:2])
    with pytest.raises(InvalidInput, match="none: can't be read"):
        rta("models", "push", folder, *nobody, tmp_path / "none")
    with pytest.raises(InvalidInput, match=r"holds neither manifest\.json nor"):
        rta("models", "push", tmp_path / "data")


def test_a_trained_folder_is_pushed_to_this_host_judged_once_and_its_verdict_kept(
    rta: Rta, made_world: World
) -> None:
    trained = made_world.events.parent / "trained"

    first = json.loads(rta("models", "push", trained, "--why", "better", "--json").stdout)
    again = json.loads(rta("models", "push", trained, "--json").stdout)

    one = first["verdicts"][0]
    kept = json.loads(rta("models", "verdict", one["name"], one["version"], "--json").stdout)
    assert all(verdict["accepted"] for verdict in first["verdicts"])
    assert {verdict["reason"] for verdict in again["verdicts"]} == {"known"}
    assert [v["reason"] for v in kept["verdicts"]] == ["known", ""]
    assert (one["why"], one["signed_by"]) == ("better", "this data folder")
    assert one["name"] in rta("models", "verdict", one["name"], one["version"]).stdout
    assert not list(trained.glob("*/*/signature.json"))
    with pytest.raises(InvalidInput, match="no verdict on it is kept here"):
        rta("models", "verdict", one["name"], "v0")


def test_of_models_with_one_refused_none_is_published(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(made_world.events.parent / "trained", trained)
    text = next((trained / "trade").glob("*/model.txt"))
    text.write_bytes(text.read_bytes() + b"\n")

    with pytest.raises(InvalidInput, match=r"nothing was published: trade .*hashes: model"):
        rta("models", "publish", trained)

    told = rta("models", "publish", trained, "--json")
    assert told.exit_code == EXIT_WRONG_INPUT
    accepted = {v["name"]: v["accepted"] for v in json.loads(told.stdout)["verdicts"]}
    assert (accepted["register"], accepted["trade"]) == (True, False)
