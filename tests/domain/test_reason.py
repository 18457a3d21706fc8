from rta_service.domain.reason import DEGRADED, PARTICIPATING, REASON_TEXT, ReasonCode


def test_every_reason_has_a_sentence_of_its_own() -> None:
    assert list(REASON_TEXT) == list(ReasonCode)
    assert len(set(REASON_TEXT.values())) == len(ReasonCode)
    assert all(text and text == text.strip() for text in REASON_TEXT.values())


def test_codes_index_metric_cells_without_a_gap() -> None:
    assert [int(reason) for reason in ReasonCode] == list(range(len(ReasonCode)))


def test_the_words_on_the_wire_stay_what_they_are() -> None:
    assert [reason.label for reason in ReasonCode][:5] == [
        "accepted",
        "woken",
        "unknown_accepted",
        "degraded_accepted",
        "ping",
    ]


def test_a_reason_is_a_yes_or_a_no_and_only_one_yes_is_degraded() -> None:
    both = PARTICIPATING & DEGRADED

    assert both == {ReasonCode.DEGRADED_ACCEPTED}
