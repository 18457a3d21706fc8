"""What a platform tells us about a device: ids, operating system, placement."""

from enum import IntEnum, StrEnum

import msgspec


class IdKind(StrEnum):
    """The kinds of device id that platforms send, most reliable first."""

    OAID = "oaid"
    IDFA = "idfa"
    CAID = "caid"
    IMEI = "imei"
    GAID = "gaid"
    ANDROID_ID = "android_id"
    MAC = "mac"


class IdForm(StrEnum):
    """Whether an id came as it is or as its MD5."""

    RAW = "raw"
    MD5 = "md5"


class OperatingSystem(IntEnum):
    """Operating systems as model codes: never renumber, only append."""

    OTHER = 0
    ANDROID = 1
    IOS = 2
    HARMONY = 3

    @property
    def label(self) -> str:
        """The word used on the json platform's wire."""
        return self.name.lower()


class Placement(IntEnum):
    """Where the ad would be shown, as model codes: never renumber, only append."""

    NONE = 0
    SPLASH = 1
    APP_STORE = 2
    SEARCH_SUGGEST = 3
    SEARCH_RESULT = 4
    FEED = 5
    OTHER = 6

    @property
    def label(self) -> str:
        """The word used on the json platform's wire."""
        return self.name.lower()


class DeviceId(msgspec.Struct, frozen=True, gc=False):
    """One id of a device, as sent; doubtful ids are tried last."""

    kind: IdKind
    value: str
    form: IdForm = IdForm.MD5
    trusted: bool = True
