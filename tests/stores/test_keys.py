import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.stores.keys import (
    bucket_name,
    bucket_prefix,
    delta_prefix,
    manifest_name,
    release_name,
)


def test_names_are_what_the_operations_page_says() -> None:
    assert bucket_name(bucket_prefix("ad", "s1"), 255) == b"ad:p1:s1:ff"
    assert manifest_name("ad", "s1") == b"ad:p1:s1:manifest"
    assert bucket_name(delta_prefix("ad", 20_000), 255) == b"ad:d1:20000:ff"
    assert release_name("ad", "current") == "{ad}:r1:current"


@pytest.mark.parametrize("word", ["", "a:b", "{a}", "a b", "-a", "a" * 101])
def test_words_that_would_change_the_meaning_of_a_key_are_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="namespace"):
        bucket_prefix(word, "s1")
    with pytest.raises(InvalidInput, match="snapshot id"):
        bucket_prefix("ad", word)
