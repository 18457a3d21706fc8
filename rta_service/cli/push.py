"""`rta models keygen|sign|push|verdict|publish`: models on their way into a service."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer
from rich.progress import Progress
from rich.table import Table

from rta_service import wiring
from rta_service.cli.app import EXIT_WRONG_INPUT, progress, stdout
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson, DataDir, RedisUrl, Why, now_ms, settings_of, who
from rta_service.cli.release import print_json, report_change
from rta_service.config import Settings
from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.releasing.publishing import Change, publish as publish_release
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.upload_stages import STAGES
from rta_service.releasing.uploading import UploadFacts, Verdict, accept_signed
from rta_service.releasing.verdicts import read_verdicts
from rta_service.scoring.bundle import SIGNATURE, BundleLimits, copy_folder, open_folder, pack
from rta_service.scoring.disposable import DisposableProcess
from rta_service.scoring.manifest import MANIFEST, read_manifest
from rta_service.scoring.signature import (
    generate_key,
    key_id,
    public_of,
    read_key,
    sign as sign_manifest,
    trusted_line,
    write_key,
    write_signature,
)
from rta_service.stores.model_folder import latest_bundles

Dir = Annotated[
    Path,
    typer.Argument(
        help="A version's folder, or a model's, or all that `rta models train` wrote: the newest."
    ),
]
Json = dict[str, Any]

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 300.0
"""The judgement of a large model takes tens of seconds, and the answer comes after it."""
_COLOURS: Final = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


@models_app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="New file for the private key.")],
    name: Annotated[str, typer.Option(help="Whose key it is: one word for verdicts.")] = "growth",
) -> None:
    """Make a key that signs models, and print its line of trust.

    The line goes into a service's file of trusted keys; the key's id stands at its end.
    """
    if not name.isidentifier():
        raise InvalidInput("is not one plain word", "--name")
    key = generate_key()
    write_key(file, key)
    typer.echo(trusted_line(name, public_of(key)), nl=False)


@models_app.command()
def sign(
    folder: Dir,
    key: Annotated[Path, typer.Option(help="Private key of `rta models keygen`.")],
) -> None:
    """Sign a model, or the newest version of each model in a folder."""
    private = read_key(key)
    for bundle in bundles_in(folder):
        open_folder(bundle)
        _sign(bundle, private)
        stdout.print(
            f"signed {bundle} with {key_id(public_of(private))}", markup=False, soft_wrap=True
        )


@models_app.command()
def push(
    folder: Dir,
    url: Annotated[
        str | None, typer.Option(help="Control port of the service; without it, this data folder.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token that may upload (for --url).")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key to sign unsigned models with on the way.")
    ] = None,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Upload models to be judged and staged; nothing decides yet.

    Exit 0 if all were accepted, 2 if one was refused. Without --url, a model that nobody signed
    is signed by this data folder's own key.
    """
    bundles = bundles_in(folder)
    private = read_key(key) if key else None
    with progress(quiet=as_json) as bars:
        if url is None:
            settings = settings_of(data, redis_url)
            with wiring.open_shelf(settings) as shelf, DisposableProcess() as process:
                judge = _judge_of(shelf, settings, (process, private), why)
                documents = [judge(bundle, bars).to_json() for bundle in bundles]
        else:
            sender = Sender(url, _token(token_file), why)
            documents = [sender.send(bundle, private, bars) for bundle in bundles]
    if as_json:
        print_json({"verdicts": documents})
    else:
        for document in documents:
            show_verdict(document)
    if not all(document["accepted"] for document in documents):
        raise typer.Exit(EXIT_WRONG_INPUT)


@models_app.command()
def publish(
    folder: Dir,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Upload models and let them decide for everybody at once.

    The newest version of each. The quick way for a first release; with traffic, `rta models push` and then a rollout in steps
    (shadow, canary, live) is the careful one.
    """
    settings = settings_of(data, redis_url)
    bundles = bundles_in(folder)
    with wiring.open_shelf(settings) as shelf:
        if settings.two_person_approval and shelf.releases.current() is not None:
            raise InvalidInput(
                "RTA_TWO_PERSON_APPROVAL is on: upload with rta models push, let the models go "
                "live with rta models live, and have somebody else approve",
                "models publish",
            )
        with progress(quiet=as_json) as bars, DisposableProcess() as process:
            judge = _judge_of(shelf, settings, (process, None), why)
            verdicts = [judge(bundle, bars) for bundle in bundles]
        _require_accepted(verdicts, as_json=as_json)
        refs = tuple(verdict.ref for verdict in verdicts if verdict.ref)
        note = "models " + ", ".join(f"{ref.name} {ref.version}" for ref in refs)
        change = Change(models=refs, note=note, who=who(), why=why)
        outcome = publish_release(shelf, change, now_ms())
    report_change(outcome, as_json=as_json)
    if not as_json:
        stdout.print(
            "these models decide for everybody at once; with traffic, the careful way is: rta"
            " models push, then shadow, canary and live",
            soft_wrap=True,
        )


@models_app.command()
def verdict(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what every gate found when a version was uploaded.

    The newest verdict first.
    """
    folder = settings_of(data, None).models_folder
    found = [verdict.to_json() for verdict in read_verdicts(folder, name, version)]
    if not found:
        raise InvalidInput("no verdict on it is kept here", f"{name} {version}")
    if as_json:
        print_json({"verdicts": found})
        return
    for document in found:
        show_verdict(document)


def bundles_in(folder: Path) -> tuple[Path, ...]:
    """Give a version's own folder, or the newest one of each model in a trained folder.

    Also of one model's folder in it. Raises InvalidInput for a folder of nothing of that.
    """
    if (folder / MANIFEST).is_file():
        return (folder,)
    found = latest_bundles(folder)
    if not found:
        raise InvalidInput(
            f"holds neither {MANIFEST} nor <version>/{MANIFEST} nor <name>/<version>/{MANIFEST}",
            str(folder),
        )
    return found


def show_verdict(document: Json) -> None:
    """Print a verdict with every gate's figure."""
    word = "accepted" if document["accepted"] else "REFUSED"
    known = " (known before)" if document["accepted"] and document["reason"] else ""
    stdout.print(
        f"{document['name']} {document['version']}: {word}{known} in {document['seconds']:.1f} s,"
        f" verdict {document['upload_id']}",
        markup=False,
        soft_wrap=True,
    )
    table = Table("gate", "", "figure", "must be")
    table.add_column("note", overflow="fold")
    reached = [gate for gate in document["gates"] if gate["outcome"] != "not_reached"]
    for gate in reached:
        figure = "" if gate["figure"] is None else f"{gate['figure']:.6g}"
        outcome = f"[{_COLOURS[gate['outcome']]}]{gate['outcome']}[/]"
        table.add_row(gate["name"], outcome, figure, gate["limit"], _plain(gate["note"]))
    stdout.print(table)
    if beyond := len(document["gates"]) - len(reached):
        stdout.print(f"{beyond} later gates were not reached")
    for fault in document["faults"]:
        line = "line {line}, tree {tree}, {field}: {reason}".format(**fault)
        stdout.print(line, markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _require_accepted(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    """End the command if a model was refused: then none is published."""
    refused = [verdict for verdict in verdicts if not verdict.accepted]
    if not refused:
        return
    if as_json:
        print_json({"verdicts": [verdict.to_json() for verdict in verdicts]})
        raise typer.Exit(EXIT_WRONG_INPUT)
    for one in refused:
        show_verdict(one.to_json())
    said = "; ".join(f"{one.name} {one.version}: {one.reason}" for one in refused)
    raise InvalidInput(f"nothing was published: {said}", "models")


def _judge_of(
    shelf: Shelf, settings: Settings, tools: tuple[DisposableProcess, bytes | None], why: str
) -> Callable[[Path, Progress], Verdict]:
    """Make what takes a bundle into this host's data folder, with a bar for its stages."""
    process, key = tools
    rules = replace(wiring.upload_rules(settings), shared=process)
    held_to = rules, key or wiring.house_key(settings)

    def judge(bundle: Path, bars: Progress) -> Verdict:
        task = bars.add_task(bundle.name, total=len(STAGES) + 1)

        def step(stage: str) -> None:
            bars.update(task, advance=1, description=f"{bundle.parent.name}: {stage}")

        facts = UploadFacts(by=who(), at_ms=now_ms(), why=why)
        return accept_signed(shelf, bundle, facts, held_to, step)

    return judge


def _sign(bundle: Path, key: bytes) -> None:
    signature = sign_manifest((bundle / MANIFEST).read_bytes(), key)
    write_signature(bundle / SIGNATURE, signature)


def _token(file: Path | None) -> str:
    if file is None:
        raise InvalidInput(
            "is needed with --url: a file with a token that may upload", "--token-file"
        )
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't be read ({error})", str(file)) from error


class Sender:
    """Sends bundles to a service's control port."""

    def __init__(self, url: str, token: str, why: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._why = why

    def send(self, bundle: Path, key: bytes | None, bars: Progress) -> Json:
        """Stream a bundle as a tar, and give its verdict; signed by the key if nobody did.

        Raises InvalidInput when the service does not take it from us, DegradedError when it can't
        be reached or has trouble of its own.
        """
        name = read_manifest(bundle).name
        with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryFile() as tar:
            copy = Path(temporary)
            files = copy_folder(bundle, copy, BundleLimits())
            if key is not None and not files.has(SIGNATURE):
                _sign(copy, key)
            size = pack(copy, tar)
            tar.seek(0)
            task = bars.add_task(f"{name}: sending", total=size)
            pieces = _pieces(tar, lambda sent: bars.update(task, advance=sent))
            return self._post(f"{self._url}/v1/models/{name}/versions", pieces, size)

    def _post(self, url: str, pieces: Iterator[bytes], size: int) -> Json:
        import httpx

        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/x-tar",
            "Content-Length": str(size),
        }
        asked = {"why": self._why} if self._why else {}
        try:
            answer = httpx.post(
                url, content=pieces, headers=headers, params=asked, timeout=_TIMEOUT_S
            )
            document = dict(answer.json())
        except (httpx.HTTPError, httpx.InvalidURL, TypeError, ValueError) as error:
            raise DegradedError(f"{url}: no answer of a control port ({error})") from error
        if "verdict" in document:
            return dict(document["verdict"])
        said = f"{answer.status_code}: {document.get('detail') or document.get('title', '')}"
        if answer.is_client_error:
            raise InvalidInput(said, url)
        raise DegradedError(f"{url}: {said}")


def _pieces(file: IO[bytes], sent: Callable[[int], None]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
        sent(len(chunk))
