"""What uploads are held to, read anew for each: a key is trusted from its next upload on."""

from collections.abc import Callable

from rta_service.domain.errors import InvalidInput
from rta_service.releasing.upload_stages import UploadRules


class FreshRules:
    """Gives the rules as they stand now; a broken file of keys leaves the last good ones."""

    def __init__(self, read: Callable[[], UploadRules], report: Callable[[str], None]) -> None:
        """Read once; raises InvalidInput where there are no good rules to begin with."""
        self._read = read
        self._report = report
        self._good = read()
        self._said = ""

    def __call__(self) -> UploadRules:
        """Read again; what is broken is reported once, until it is broken otherwise."""
        try:
            self._good, trouble = self._read(), ""
        except InvalidInput as error:
            trouble = f"{error}; the keys of before go on"
        if trouble and trouble != self._said:
            self._report(trouble)
        self._said = trouble
        return self._good
