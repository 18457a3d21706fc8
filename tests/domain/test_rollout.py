import msgspec
import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rta_service.domain import rollout
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import ModelRef, Release
from rta_service.domain.rollout import Phase, percent, phase_of


def ref(name: str, version: int) -> ModelRef:
    return ModelRef(name, f"v{version}", f"{version:064x}")


REGISTER, TRADE = ref("register", 1), ref("trade", 1)
NEW = ref("register", 2)
FIRST = Release("r1", "snapshot", (REGISTER, TRADE), "strategies", 0)


def test_a_version_goes_all_the_way_and_is_gone_back_from() -> None:
    shadowed = rollout.to_shadow(FIRST, [NEW])
    canary = rollout.to_canary(shadowed, [NEW], 1_000, now_ms=5)
    live = rollout.to_live(canary, [NEW])
    back = rollout.roll_back(live)

    assert shadowed.shadow == (NEW,)
    assert canary.canary is not None
    assert (canary.canary.models, canary.canary.share_millionths) == ((NEW,), 1_000)
    assert canary.shadow == ()
    assert live.models == (NEW, TRADE)
    assert (live.previous, live.canary) == ((REGISTER,), None)
    assert (back.models, back.previous, back.rolled_back) == (FIRST.models, (NEW,), (NEW,))


def test_what_was_rolled_back_is_not_gone_back_to_by_doing_it_twice() -> None:
    back = rollout.roll_back(rollout.to_live(FIRST, [NEW], skip=True))

    with pytest.raises(InvalidInput, match="rta models live register@v2 --skip"):
        rollout.roll_back(back)

    on_purpose = rollout.to_live(back, [NEW], skip=True)
    assert (on_purpose.previous, on_purpose.rolled_back) == ((REGISTER,), ())
    assert rollout.roll_back(on_purpose).models == FIRST.models


def test_a_rollback_leaves_alone_what_was_rolled_back_of_another_name() -> None:
    back = rollout.roll_back(rollout.to_live(FIRST, [NEW], skip=True))
    trade = rollout.to_live(back, [ref("trade", 2)], skip=True)

    again = rollout.roll_back(trade)

    assert again.models == FIRST.models
    assert set(again.rolled_back) == {NEW, ref("trade", 2)}


def test_a_rollback_of_the_whole_release_counts_as_one_of_its_models() -> None:
    live = rollout.to_live(FIRST, [NEW], skip=True)

    back = rollout.return_to(live, FIRST)
    forth = rollout.return_to(back, live)

    assert (back.previous, back.rolled_back) == ((NEW,), (NEW,))
    assert (forth.previous, forth.rolled_back) == ((REGISTER,), ())
    assert rollout.roll_back(forth).models == FIRST.models


def test_a_version_that_is_let_go_of_is_no_longer_one_that_was_rolled_back() -> None:
    back = rollout.roll_back(rollout.to_live(FIRST, [NEW], skip=True))

    assert rollout.to_archive(back, [NEW]).rolled_back == ()
    assert rollout.exchange(back, [NEW, TRADE]).rolled_back == ()


def test_a_rollback_ends_a_canary_before_anything_else() -> None:
    live = rollout.to_live(FIRST, [NEW], skip=True)
    canary = rollout.to_canary(rollout.to_shadow(live, [ref("trade", 2)]), [ref("trade", 2)], 1, 0)

    back = rollout.roll_back(canary)

    assert back.canary is None
    assert back.models == live.models


def test_a_share_can_grow_and_keeps_its_layer() -> None:
    canary = rollout.to_canary(rollout.to_shadow(FIRST, [NEW]), [NEW], 1, now_ms=0)

    grown = rollout.to_canary(canary, [NEW], 999_999, now_ms=9)

    assert canary.canary is not None
    assert grown.canary is not None
    assert grown.canary.layer == canary.canary.layer
    assert grown.canary.since_ms == 9


def test_another_version_is_another_layer() -> None:
    layers = set()
    for version in (2, 3):
        new = ref("register", version)
        canary = rollout.to_canary(rollout.to_shadow(FIRST, [new]), [new], 1, 0).canary
        assert canary is not None
        layers.add(canary.layer)

    assert len(layers) == 2


@pytest.mark.parametrize("share", [0, -1, 1_000_000, 2_000_000])
def test_a_canary_has_some_people_and_not_all(share: int) -> None:
    with pytest.raises(InvalidInput, match="share"):
        rollout.to_canary(rollout.to_shadow(FIRST, [NEW]), [NEW], share, 0)


def test_what_was_not_in_shadow_may_not_decide() -> None:
    with pytest.raises(InvalidInput, match="model register v2: must be in shadow"):
        rollout.to_canary(FIRST, [NEW], 1, 0)
    with pytest.raises(InvalidInput, match="only a whole canary"):
        rollout.to_live(rollout.to_shadow(FIRST, [NEW]), [NEW])


def test_one_canary_at_a_time() -> None:
    other = ref("trade", 2)
    canary = rollout.to_canary(rollout.to_shadow(FIRST, [NEW, other]), [NEW], 1, 0)

    with pytest.raises(InvalidInput, match=r"a canary is running \(model register v2\)"):
        rollout.to_canary(canary, [other], 1, 0)


def test_a_canary_needs_a_live_model_to_be_compared_with() -> None:
    value = ref("value", 1)

    with pytest.raises(InvalidInput, match="no live version"):
        rollout.to_canary(rollout.to_shadow(FIRST, [value]), [value], 1, 0)


def test_half_a_canary_can_not_go_live() -> None:
    both = [NEW, ref("trade", 2)]
    canary = rollout.to_canary(rollout.to_shadow(FIRST, both), both, 1, 0)

    with pytest.raises(InvalidInput, match="only a whole canary"):
        rollout.to_live(canary, [NEW])


def test_a_jump_leaves_an_unrelated_canary_alone() -> None:
    canary = rollout.to_canary(rollout.to_shadow(FIRST, [NEW]), [NEW], 1, 0)

    live = rollout.to_live(canary, [ref("trade", 2)], skip=True)

    assert live.canary == canary.canary


def test_who_decides_already_needs_no_shadow() -> None:
    with pytest.raises(InvalidInput, match="decides already"):
        rollout.to_shadow(FIRST, [REGISTER])


@pytest.mark.parametrize("refs", [[], [NEW, ref("register", 3)]])
def test_each_model_is_named_once(refs: list[ModelRef]) -> None:
    with pytest.raises(InvalidInput, match="one version each"):
        rollout.to_shadow(FIRST, refs)


def test_there_must_be_something_to_stop_or_to_go_back_to() -> None:
    with pytest.raises(InvalidInput, match="neither a canary nor a shadow"):
        rollout.stop(FIRST)
    with pytest.raises(InvalidInput, match="no live model has a previous version"):
        rollout.roll_back(FIRST)


def test_only_a_previous_version_is_archived() -> None:
    live = rollout.to_live(FIRST, [NEW], skip=True)

    archived = rollout.to_archive(live, [REGISTER])

    assert archived.previous == ()
    assert phase_of(archived, REGISTER, was_live=True) is Phase.ARCHIVED
    with pytest.raises(InvalidInput, match="is not a previous version"):
        rollout.to_archive(live, [NEW])


VERSIONS = st.builds(ref, st.sampled_from(["register", "trade", "value"]), st.integers(1, 4))


class Rollouts(RuleBasedStateMachine):
    """Any order of steps: refusals change nothing, and no version stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.release = FIRST

    @rule(new=VERSIONS)
    def shadow(self, new: ModelRef) -> None:
        self.attempt(lambda: rollout.to_shadow(self.release, [new]))

    @rule(new=VERSIONS, share=st.integers(1, 999_999))
    def canary(self, new: ModelRef, share: int) -> None:
        self.attempt(lambda: rollout.to_canary(self.release, [new], share, 0))

    @rule(new=VERSIONS, skip=st.booleans())
    def live(self, new: ModelRef, skip: bool) -> None:
        self.attempt(lambda: rollout.to_live(self.release, [new], skip=skip))

    @rule()
    def stop(self) -> None:
        self.attempt(lambda: rollout.stop(self.release))

    @precondition(lambda self: self.release.previous)
    @rule()
    def archive(self) -> None:
        self.attempt(lambda: rollout.to_archive(self.release, self.release.previous[:1]))

    @rule()
    def roll_back(self) -> None:
        before = self.release
        self.attempt(lambda: rollout.roll_back(self.release))
        if before.canary is None and self.release != before:
            with pytest.raises(InvalidInput, match="was itself rolled back"):
                rollout.roll_back(self.release)

    def attempt(self, step: object) -> None:
        assert callable(step)
        try:
            self.release = step()
        except InvalidInput:
            return

    @invariant()
    def stands_in_one_place(self) -> None:
        release = self.release
        canary = release.canary.models if release.canary else ()
        groups = [release.models, canary, release.shadow, release.previous]
        refs = [one for group in groups[:3] for one in group]
        assert len(refs) == len(set(refs)), refs
        # what could be gone back to may be tried again meanwhile
        assert not set(release.previous) & set(release.models)
        assert set(release.rolled_back) <= set(release.previous)
        assert set(rollout.all_refs(release)) == {*refs, *release.previous}
        for group in groups:
            assert len({one.name for one in group}) == len(group)

    @invariant()
    def keeps_deciding(self) -> None:
        assert {"register", "trade"} <= {one.name for one in self.release.models}

    @invariant()
    def survives_the_store(self) -> None:
        text = msgspec.json.encode(self.release)
        assert msgspec.json.decode(text, type=Release) == self.release


TestRollouts = Rollouts.TestCase


@given(version=VERSIONS)
def test_every_version_has_one_phase(version: ModelRef) -> None:
    phases = {phase_of(FIRST, version, was_live=was) for was in (False, True)}

    assert phases in ({Phase.LIVE}, {Phase.STAGED, Phase.ARCHIVED})
    assert phase_of(None, version, was_live=False) is Phase.STAGED


@pytest.mark.parametrize(
    ("millionths", "shown"),
    [(1, "0.0001 %"), (1_000, "0.1 %"), (999_999, "99.9999 %"), (1_000_000, "100 %")],
)
def test_a_share_is_written_for_people(millionths: int, shown: str) -> None:
    assert percent(millionths) == shown
