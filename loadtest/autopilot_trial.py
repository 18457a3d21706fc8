"""One candidate's trial on a simulated crowd: really trained models, clicks, delays, the autopilot."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.rollout import MILLION, Phase
from rta_service.experiments import buckets, layer_salt
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.judge import Judgement, Standing, judge
from rta_service.nearline.autopilot.observing import (
    Observation,
    Outcomes,
    count_people,
    observe,
    settle,
    time_calls,
)
from rta_service.nearline.autopilot.policy import Policy
from rta_service.scoring.calibration import Calibration, calibrate, fit_calibration
from rta_service.scoring.metrics import auc
from rta_service.simulation.candidates import (
    CODES,
    CONTEXT,
    Crowd,
    CrowdClicks,
    FloatMatrix,
    Kind,
    excess_loss,
    leak,
    stage_names,
    swap,
)

__all__ = ["Candidate", "Fate", "Scale", "make_candidate", "run_trial"]

FloatColumn = NDArray[np.float64]

FIRST_DAY: Final = 35
"""Of the history that models learn from; features look back 28 days, and stale ones further."""
TRIAL_DAY: Final = 52
WINDOW_DAYS: Final = 3.0
"""A label is known when this has passed since the click."""
TICKS_A_DAY: Final = 4
_DAY_MS: Final = 86_400_000
_CALIBRATION_DAYS: Final = 3
_EVALUATION_DAYS: Final = 2
_PERSON_COLUMNS: Final = 8
_HARM: Final = 0.018
"""Nats a conversion: what a level that is a fifth too high costs."""
_VALUE: Final = 30e6
_TOP_PRICE: Final = 3e6
_SCORING_US: Final = 40.0
_DECISION_US: Final = 3_500.0
_TIMED_CALLS: Final = 4
_SAMPLED_TIMES: Final = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """How big the advertiser is."""

    clicks_a_day: int = 20_000
    """That models learn from."""
    offers_a_day: int = 12_000
    """Chances to buy a click; about two fifths are won."""
    people_a_day: int = 300_000
    """People asked about."""
    last_day: int = 45
    """Of the trial; what is undecided then counts as such."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model and what is wrong with the way it is served."""

    name: str
    kind: Kind
    booster: lightgbm.Booster
    calibration: Calibration
    claimed_auc: float
    factor: float = 1.0
    columns: tuple[int, int] = (0, 0)
    stale_days: int = 0
    slowness: float = 1.0

    def scores(self, crowd: Crowd, clicks: CrowdClicks, day: int) -> FloatColumn:
        """Score clicks as a worker would that serves this model: [n]."""
        features = clicks.features
        if self.stale_days:
            context = features[:, -CONTEXT + 1 :]
            features = crowd.features(clicks.person, day - self.stale_days, context)
        raw = _predict(self.booster, swap(features, self.columns))
        return np.minimum(calibrate(raw, self.calibration) * self.factor, 1.0)


class Fate(msgspec.Struct, frozen=True):
    """What became of a candidate."""

    kind: Kind
    action: str
    """promote (it went live), roll_back, or wait (the days were over)."""
    highest_millionths: int
    """The largest share of people it ever decided for."""
    days: float
    people: int
    """For how many it decided."""
    positives: int
    """Matured positives that had been seen."""
    reasons: tuple[str, ...]

    @property
    def stopped_early(self) -> bool:
        """Whether it never reached 1 % of people."""
        return self.action != "promote" and self.highest_millionths < MILLION // 100


@dataclass(frozen=True, slots=True)
class _Recipe:
    first_day: int
    rows_a_day: int
    rounds: int
    leaves: int
    stale_days: int = 0
    leak: float = 0.0


def make_candidate(
    name: str, kind: Kind, crowd: Crowd, scale: Scale, rng: np.random.Generator
) -> Candidate:
    """Train a candidate on other rows than all others, and spoil it in its kind's way."""
    recipe = _Recipe(
        first_day=FIRST_DAY + int(rng.integers(0, 5)),
        rows_a_day=int(scale.clicks_a_day * rng.uniform(0.9, 1.2)),
        rounds=int(rng.integers(60, 90)),
        leaves=int(rng.choice([7, 12])),
    )
    stale = int(rng.integers(3, 8))
    in_training = bool(rng.random() < 0.5)  # stale when it learns, or stale when it serves
    if kind is Kind.LEAKED:
        recipe = replace(recipe, leak=float(rng.uniform(1.0, 4.0)))
    if kind is Kind.STALE and in_training:
        recipe = replace(recipe, stale_days=stale)
    trained = _train(name, kind, crowd, recipe, rng)
    changes: dict[Kind, Callable[[], Candidate]] = {
        Kind.MISCALIBRATED: lambda: replace(trained, factor=1.2),
        Kind.SWAPPED: lambda: replace(trained, columns=_harmful_swap(trained, crowd, scale, rng)),
        Kind.STALE: lambda: replace(trained, stale_days=0 if in_training else stale),
        Kind.SLOWER: lambda: replace(trained, slowness=float(rng.uniform(2.0, 4.0))),
    }
    return changes.get(kind, lambda: trained)()


def _harmful_swap(
    trained: Candidate, crowd: Crowd, scale: Scale, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw two columns whose exchange does as much harm as a level that is a fifth too high.

    Five of the 28 pairs do less, such as clicks on ads for apps of the industry.
    """
    clicks = crowd.clicks(TRIAL_DAY, scale.clicks_a_day, rng)
    scores = trained.scores(crowd, clicks, TRIAL_DAY)
    while True:
        one, other = rng.choice(_PERSON_COLUMNS, 2, replace=False).tolist()
        swapped = replace(trained, columns=(one, other)).scores(crowd, clicks, TRIAL_DAY)
        if excess_loss(swapped, scores, clicks.chance) >= _HARM:
            return one, other


def _train(
    name: str, kind: Kind, crowd: Crowd, recipe: _Recipe, rng: np.random.Generator
) -> Candidate:
    known_until = TRIAL_DAY - int(WINDOW_DAYS)
    calibrated_from = known_until - _EVALUATION_DAYS - _CALIBRATION_DAYS
    evaluated_from = calibrated_from + _CALIBRATION_DAYS
    features, labels = _rows(crowd, recipe, range(recipe.first_day, calibrated_from), rng)
    params = {
        "objective": "binary",
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": 300,
        "learning_rate": 0.08,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "num_threads": 1,
        "verbosity": -1,
        "seed": int(rng.integers(1 << 30)),
    }
    data = lightgbm.Dataset(features, labels, categorical_feature=list(CODES))
    booster = lightgbm.train(params, data, num_boost_round=recipe.rounds)
    later, hits = _rows(crowd, recipe, range(calibrated_from, evaluated_from), rng)
    calibration = fit_calibration(_predict(booster, later), hits)
    last, truth = _rows(crowd, recipe, range(evaluated_from, known_until), rng)
    claimed = auc(truth, calibrate(_predict(booster, last), calibration))
    return Candidate(name, kind, booster, calibration, claimed, slowness=rng.uniform(0.9, 1.15))


def _predict(booster: lightgbm.Booster, features: FloatMatrix) -> FloatColumn:
    return np.asarray(booster.predict(features, num_threads=1), dtype=np.float64)


def _rows(
    crowd: Crowd, recipe: _Recipe, days: range, rng: np.random.Generator
) -> tuple[FloatMatrix, NDArray[np.bool_]]:
    """Collect training rows of some days, as the recipe's pipeline would have written them."""
    matrices, labels = [], []
    for day in days:
        clicks = crowd.clicks(day, recipe.rows_a_day, rng)
        hits = clicks.delay_days <= WINDOW_DAYS
        features = clicks.features
        if recipe.stale_days:
            context = features[:, -CONTEXT + 1 :]
            features = crowd.features(clicks.person, day - recipe.stale_days, context)
        matrices.append(leak(features, hits, recipe.leak, rng))
        labels.append(hits)
    return np.vstack(matrices), np.concatenate(labels)


class _Trial:
    """A trial under way: where the candidate stands, what is known, and what has yet to mature."""

    def __init__(self, crowd: Crowd, models: tuple[Candidate, Candidate], scale: Scale) -> None:
        self.crowd, self.scale = crowd, scale
        self.live, self.candidate = models
        self.evidence = Evidence(self.live.name, self.candidate.name)
        self.standing = Standing(
            Phase.SHADOW,
            claimed_auc=self.candidate.claimed_auc,
            live_claimed_auc=self.live.claimed_auc,
        )
        self.salt = layer_salt(f"canary:{self.candidate.name}")
        self.highest = 0
        self.waiting: list[tuple[float, Outcomes]] = []

    def tick(self, number: int, rng: np.random.Generator) -> None:
        """Let a quarter of a day pass: offers, purchases, matured labels, people, times."""
        day = TRIAL_DAY + number // TICKS_A_DAY
        clicks = self.crowd.clicks(day, self.scale.offers_a_day // TICKS_A_DAY, rng)
        keys = (clicks.person.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        arm = buckets(keys, self.salt) < self.standing.share_millionths
        live = self.live.scores(self.crowd, clicks, day)
        candidate = self.candidate.scores(self.crowd, clicks, day)
        bid = _VALUE * np.where(arm, candidate, live)
        price = rng.uniform(0.0, _TOP_PRICE, len(bid))
        won = bid > price
        self.evidence = observe(self.evidence, self._sampled(live, candidate, arm, bid, rng))
        outcomes = Outcomes(
            stage_names(clicks.features[won]),
            live[won],
            candidate[won],
            clicks.delay_days[won] <= WINDOW_DAYS,
            arm[won],
            np.full(int(won.sum()), _VALUE),
            price[won],
        )
        now = number / TICKS_A_DAY
        self.waiting.append((now + WINDOW_DAYS, outcomes))
        while self.waiting and self.waiting[0][0] <= now:
            self.evidence = settle(self.evidence, self.waiting.pop(0)[1])
        self._meet_and_time(rng)

    def _sampled(
        self,
        live: FloatColumn,
        candidate: FloatColumn,
        arm: NDArray[np.bool_],
        bid: FloatColumn,
        rng: np.random.Generator,
    ) -> Observation:
        scoring = _SCORING_US * np.where(arm, self.candidate.slowness, 1.0)
        latency = _DECISION_US * rng.lognormal(0.0, 0.4, len(bid)) + scoring
        latency[_SAMPLED_TIMES:][~arm[_SAMPLED_TIMES:]] = np.nan
        return Observation(live, candidate, arm, bid > 0.0, bid, latency)

    def _meet_and_time(self, rng: np.random.Generator) -> None:
        share = self.standing.share_millionths
        if share:
            people = self.scale.people_a_day // TICKS_A_DAY
            met = int(rng.binomial(people, share / MILLION))
            self.evidence = count_people(self.evidence, share, Split(people - met, met))
        live_us = _SCORING_US * rng.lognormal(0.0, 0.25, _TIMED_CALLS)
        own_us = _SCORING_US * self.candidate.slowness * rng.lognormal(0.0, 0.25, _TIMED_CALLS)
        self.evidence = time_calls(self.evidence, live_us, own_us)

    def follow(self, judgement: Judgement, now_ms: int) -> bool:
        """Do what was judged; tells whether the trial is over."""
        over = judgement.action == "roll_back" or (
            judgement.action == "promote" and judgement.share_millionths == MILLION
        )
        if judgement.action == "promote":
            self.highest = judgement.share_millionths
            self.standing = msgspec.structs.replace(
                self.standing, phase=Phase.CANARY, share_millionths=self.highest, since_ms=now_ms
            )
        return over


def run_trial(
    crowd: Crowd,
    models: tuple[Candidate, Candidate],
    scale: Scale,
    policy: Policy,
    rng: np.random.Generator,
) -> Fate:
    """Run (live, candidate) from shadow until it is stopped, live, or out of days."""
    trial = _Trial(crowd, models, scale)
    judgement = Judgement("wait", 0, ())
    number = 0
    for number in range(1, scale.last_day * TICKS_A_DAY):
        trial.tick(number, rng)
        now_ms = number * _DAY_MS // TICKS_A_DAY
        judgement = judge(trial.standing, trial.evidence, policy, now_ms)
        if trial.follow(judgement, now_ms):
            break
    people = sum(split.candidate for split in trial.evidence.people.values())
    return Fate(
        models[1].kind,
        judgement.action,
        trial.highest,
        number / TICKS_A_DAY,
        people,
        trial.evidence.level.positives,
        judgement.reasons,
    )
