"""What is written of a trained head: the bundle that `rta models push` sends."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import lightgbm
import msgspec
import numpy as np

from rta_service.domain.funnel import HeadSpec
from rta_service.domain.thresholds import DAY_S
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.offline.training.card_page import write_page
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.head_training import Fitted
from rta_service.offline.training.model_card import write_card
from rta_service.scoring.bundle import CARD_PAGE, EVALUATION, GOLDEN, SIGNATURE
from rta_service.scoring.evaluation_file import write_evaluation
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.golden import make_golden, write_golden
from rta_service.scoring.manifest import MANIFEST, MODEL, ModelManifest, model_path, write_model

MAX_CONTEXTS: Final = 64
"""Kinds of request kept in a manifest: three platforms, four systems and five placements fit."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trained head, and what its manifest and cards say of it."""

    spec: HeadSpec
    rows: HeadRows
    """All rows whose outcome is known."""
    fitted: Fitted
    seed: int
    prefer: Literal["head", "ratio"] = "head"
    remarks: tuple[str, ...] = field(default=())


def write_bundle(out: Path, bundle: Bundle, now_ms: int) -> ModelManifest:
    """Write one head's folder out/<name>/<version>/, its manifest last."""
    text = bundle.fitted.grown.text()
    manifest = _manifest(bundle, text, now_ms)
    path = model_path(out, manifest.ref)
    path.mkdir(parents=True, exist_ok=True)
    for stale in (MANIFEST, SIGNATURE):  # a signature is of the manifest of before
        (path / stale).unlink(missing_ok=True)
    rows = bundle.fitted.rows
    forest = parse_forest(text, str(path / MODEL))
    write_golden(path / GOLDEN, make_golden(rows.matrix, forest, bundle.fitted.calibration))
    write_evaluation(path / EVALUATION, rows.matrix, rows.labels, rows.stages)
    manifest = msgspec.structs.replace(
        manifest,
        golden_sha256=_sha256(path / GOLDEN),
        evaluation_sha256=_sha256(path / EVALUATION),
    )
    page = write_page(manifest, bundle.fitted, bundle.remarks)
    (path / CARD_PAGE).write_text(page, encoding="utf-8")
    card = write_card(manifest, bundle.fitted, bundle.remarks)
    write_model(out, text, card, manifest)
    return manifest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _manifest(bundle: Bundle, text: bytes, now_ms: int) -> ModelManifest:
    spec, rows, fitted = bundle.spec, bundle.rows, bundle.fitted
    trained_to_s = max(int(rows.as_of_s[-1]), fitted.learned_to_s)
    content = text + msgspec.json.encode((fitted.calibration, fitted.evaluation))
    return ModelManifest(
        name=spec.name,
        version=f"v{_day(trained_to_s)}-{hashlib.sha256(content).hexdigest()[:8]}",
        goal=spec.goal,
        given=spec.given,
        kind=spec.kind,
        feature_set_id=FEATURE_SET_ID,
        feature_names=FEATURE_NAMES,
        window_s=round(spec.window_days * DAY_S),
        trained_from_s=int(rows.as_of_s[0]),
        trained_to_s=trained_to_s,
        rows=len(rows),
        positives=rows.positives,
        evaluation=fitted.evaluation,
        sha256=hashlib.sha256(text).hexdigest(),
        calibration=fitted.calibration,
        seed=bundle.seed,
        lightgbm_version=lightgbm.__version__,
        created_at_ms=now_ms,
        prefer=bundle.prefer,
        contexts=_contexts(rows.fair),
    )


def _day(instant_s: int) -> str:
    return f"{datetime.fromtimestamp(instant_s, UTC):%Y%m%d}"


def _contexts(rows: HeadRows) -> tuple[tuple[int, int, int, float], ...]:
    """Count what the rows' requests looked like, the commonest first."""
    columns = [FEATURE_NAMES.index(name) for name in ("platform", "os", "placement")]
    seen, counts = np.unique(rows.matrix[:, columns].astype(int), axis=0, return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:MAX_CONTEXTS]
    return tuple(
        (int(seen[i, 0]), int(seen[i, 1]), int(seen[i, 2]), float(counts[i] / counts.sum()))
        for i in commonest
    )
