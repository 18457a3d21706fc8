"""Why an answer is what it is: the closed list of reason codes.

Codes index metric cells: never reorder, only append.
"""

from enum import IntEnum


class ReasonCode(IntEnum):
    """Each member's docstring-like sentence is in REASON_TEXT, and the docs are tested on it."""

    ACCEPTED = 0
    WOKEN = 1
    UNKNOWN_ACCEPTED = 2
    DEGRADED_ACCEPTED = 3
    PING = 4
    NO_DEVICE_ID = 5
    UNKNOWN_DEVICE = 6
    OPTED_OUT = 7
    NEVER_BID = 8
    ALREADY_REGISTERED = 9
    SILENT_LOW_VALUE = 10
    CHURNED_LOW_VALUE = 11
    STAGE_NOT_WANTED = 12
    SEGMENT_NOT_WANTED = 13
    TIER_NOT_WANTED = 14
    ROLE_NOT_WANTED = 15
    FUNNEL_NOT_WANTED = 16
    HOLDOUT = 17
    UNKNOWN_STRATEGY = 18
    NO_STRATEGY = 19
    NO_PCTR = 20
    BELOW_FLOOR = 21
    NO_VALUE = 22
    NO_RELEASE = 23
    SNAPSHOT_MISSING = 24
    STORE_UNAVAILABLE = 25
    DEADLINE_EXCEEDED = 26
    OVERLOADED = 27
    INTERNAL_ERROR = 28
    NOT_WORTH_IT = 29
    NO_BUDGET = 30
    STOPPED = 31

    @property
    def label(self) -> str:
        """The word used in answers and metrics."""
        return self.name.lower()


PARTICIPATING = frozenset(
    {
        ReasonCode.ACCEPTED,
        ReasonCode.WOKEN,
        ReasonCode.UNKNOWN_ACCEPTED,
        ReasonCode.DEGRADED_ACCEPTED,
    }
)
"""The reasons of a yes; every other reason is a no."""

DEGRADED = frozenset(
    {
        ReasonCode.DEGRADED_ACCEPTED,
        ReasonCode.NO_RELEASE,
        ReasonCode.SNAPSHOT_MISSING,
        ReasonCode.STORE_UNAVAILABLE,
        ReasonCode.DEADLINE_EXCEEDED,
        ReasonCode.OVERLOADED,
        ReasonCode.INTERNAL_ERROR,
    }
)
"""The reasons that say something of ours failed; their answers carry the degraded cache time."""

REASON_TEXT: dict[ReasonCode, str] = {
    ReasonCode.ACCEPTED: "wanted by the strategy",
    ReasonCode.WOKEN: "silent or churned, but valuable enough to be woken",
    ReasonCode.UNKNOWN_ACCEPTED: "no record, and the strategy bids for strangers",
    ReasonCode.DEGRADED_ACCEPTED: "no decision was possible; the strategy accepts when degraded",
    ReasonCode.PING: "a probe of the platform, never a bid",
    ReasonCode.NO_DEVICE_ID: "the request carries no usable device id",
    ReasonCode.UNKNOWN_DEVICE: "no record, and the strategy does not bid for strangers",
    ReasonCode.OPTED_OUT: "the person opted out of personalised ads",
    ReasonCode.NEVER_BID: "value tier X: professional seller or suppressed",
    ReasonCode.ALREADY_REGISTERED: "already registered, and the strategy buys registrations",
    ReasonCode.SILENT_LOW_VALUE: "silent, and below the tier that is worth waking",
    ReasonCode.CHURNED_LOW_VALUE: "churned, and below the tier that is worth waking",
    ReasonCode.STAGE_NOT_WANTED: "the strategy does not want this lifecycle stage",
    ReasonCode.SEGMENT_NOT_WANTED: "the strategy does not want this RFM segment",
    ReasonCode.TIER_NOT_WANTED: "the strategy does not want this value tier",
    ReasonCode.ROLE_NOT_WANTED: "the strategy does not want this role",
    ReasonCode.FUNNEL_NOT_WANTED: "the person's funnel state is not the one wanted",
    ReasonCode.HOLDOUT: "held out as a control: never bid for",
    ReasonCode.UNKNOWN_STRATEGY: "the asked strategy does not exist or is not bound here",
    ReasonCode.NO_STRATEGY: "no strategy is bound to this platform",
    ReasonCode.NO_PCTR: "a cpm answer needs the platform's pctr, and none was sent",
    ReasonCode.BELOW_FLOOR: "the bid is below the platform's floor",
    ReasonCode.NO_VALUE: "the predicted value is zero or not a number",
    ReasonCode.NO_RELEASE: "no release is loaded",
    ReasonCode.SNAPSHOT_MISSING: "the release's snapshot expired or was lost",
    ReasonCode.STORE_UNAVAILABLE: "the store did not answer in time",
    ReasonCode.DEADLINE_EXCEEDED: "no time was left to decide",
    ReasonCode.OVERLOADED: "too many requests were waiting",
    ReasonCode.INTERNAL_ERROR: "something of ours failed; see the error counter",
    ReasonCode.NOT_WORTH_IT: "worth less than cost control can afford at the moment",
    ReasonCode.NO_BUDGET: "no money of the strategy's budget is left to bid with at the moment",
    ReasonCode.STOPPED: "cost control stopped the bids: much was spent and nothing converted",
}
