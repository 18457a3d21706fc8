from fractions import Fraction

from hypothesis import given, strategies as st

from rta_service.domain.attribution import Place, TouchSum
from rta_service.nearline.attribution.cells import spread

SUMS = st.builds(
    lambda told, untold, nanos: TouchSum(told + untold, told, nanos if told else 0),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 10**9),
).filter(lambda found: found.touches > 0)
PLACES = st.dictionaries(st.builds(Place, st.integers(0, 9)), SUMS, min_size=1)


@given(st.integers(0, 10**15), PLACES)
def test_shares_add_up_to_the_cost_and_none_is_a_micro_off(
    micros: int, sums: dict[Place, TouchSum]
) -> None:
    shares = spread(micros, sums)

    told, nanos = (sum(found[field] for found in sums.values()) for field in (1, 2))
    average = Fraction(nanos, told) if nanos else Fraction(1)
    weights = {
        place: found.register_nanos + (found.touches - found.told) * average
        if nanos
        else Fraction(found.touches)
        for place, found in sums.items()
    }
    assert sum(shares.values()) == micros
    for place, weight in weights.items():
        assert abs(shares[place] - micros * weight / sum(weights.values())) < 1


def test_clicks_likelier_to_register_bear_more_of_the_cost() -> None:
    likely, unlikely, untold = Place(0, arm="live"), Place(0, arm="canary"), Place(0)

    shares = spread(
        90, {likely: TouchSum(1, 1, 3), unlikely: TouchSum(1, 1, 1), untold: TouchSum(1)}
    )

    assert shares == {likely: 45, unlikely: 15, untold: 30}
