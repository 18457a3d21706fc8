"""Settings in, parts out."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rta_service import wiring, wiring_events
from rta_service.config import Settings
from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening, Rejection
from rta_service.domain.tag import Tag
from rta_service.nearline.reading import ReadingRules
from rta_service.scoring.signature import generate_key, key_id, public_of, trusted_line


def test_the_command_line_wins_over_the_environment() -> None:
    assert wiring.load_settings(workers=3, port=None).workers == 3


def test_a_wrong_setting_is_named_as_its_variable() -> None:
    with pytest.raises(InvalidInput, match="RTA_WORKERS"):
        wiring.load_settings(workers=0)


def test_settings_travel_to_children_as_their_environment(tmp_path: Path) -> None:
    settings = wiring.load_settings(data_dir=tmp_path, redis_url="redis://h:1", workers=2)

    environment = settings.as_environment()

    assert environment["RTA_REDIS_URL"] == "redis://h:1"
    assert environment["RTA_WORKERS"] == "2"
    assert "RTA_PEPPER" not in environment


def test_secrets_never_show_in_the_settings_own_words() -> None:
    settings = Settings(pepper="a secret of mine", redis_url="redis://:secret@h")  # type: ignore[arg-type]  # pydantic turns text into secrets

    assert "secret of mine" not in repr(settings)
    assert ":secret@" not in repr(settings)


def test_a_configured_store_is_used_as_it_is(tmp_path: Path) -> None:
    settings = wiring.load_settings(data_dir=tmp_path, redis_url="redis://h:1")

    with wiring.store_url(settings) as url:
        assert url == "redis://h:1"


def test_the_embedded_store_runs_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=None)

    with wiring.store_url(settings) as outer, wiring.store_url(settings) as inner:
        assert outer == inner
        assert (tmp_path / "store.pid").exists()
    assert not (tmp_path / "store.pid").exists()


def test_two_hosts_with_one_pepper_hide_ids_alike(tmp_path: Path) -> None:
    one, two = (
        wiring.key_ring(Settings(data_dir=tmp_path / name, pepper="p" * 20))  # type: ignore[arg-type]  # see above
        for name in "ab"
    )

    assert one.device_key("x") == two.device_key("x")
    assert one.pepper_id == two.pepper_id
    assert one.person_key("u", "x") != two.person_key("u", "x")


def test_uploads_are_trusted_by_this_folders_key_and_by_those_of_its_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, model_upload_mb=7, allow_unsigned_models=True)
    alone = wiring.upload_rules(settings)
    others = public_of(generate_key())
    (tmp_path / "secrets" / "model_keys").write_text(trusted_line("growth", others))

    rules = wiring.upload_rules(settings)

    own = key_id(public_of(wiring.house_key(settings)))
    assert set(alone.trusted) == {own}
    assert {key: who.name for key, who in rules.trusted.items()} == {
        own: "this data folder",
        key_id(others): "growth",
    }
    assert (rules.allow_unsigned, rules.limits.max_bytes) == (True, 7_000_000)
    assert rules.run_dir == tmp_path / "run"
    assert ((tmp_path / "secrets" / "model_key").stat().st_mode & 0o777) == 0o600


def test_a_file_of_trusted_keys_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none: can't be read"):
        wiring.upload_rules(Settings(data_dir=tmp_path, model_keys=tmp_path / "none"))


def rule_of(settings: Settings, query: bytes) -> str | None:
    rules = ReadingRules(1_700_000_000_000)
    found = wiring_events.links(settings).read("json", "ad_click", query, rules)
    return found.rule if isinstance(found, Rejection) else None


def test_after_a_change_of_the_event_key_what_it_made_before_is_read(tmp_path: Path) -> None:
    before = Settings(data_dir=tmp_path / "a", event_key="the key of before")  # type: ignore[arg-type]  # see above
    (tmp_path / "earlier").write_text("\na key of long ago\nthe key of before \n")
    after = Settings(data_dir=tmp_path / "a", earlier_event_keys=tmp_path / "earlier")
    link = wiring_events.links(before).make("https://x.example", "json", "ad_click", {})
    query = urlsplit(link).query.encode()
    sealed = wiring_events.sealer(before).seal(Happening("e1", 1, Event.PAY, (), "u1"))
    tag = wiring.tag_codec(before).write(Tag(1, 2, 29_000_000))

    assert wiring_events.sealer(after).unseal(sealed).user_id == "u1"
    assert wiring.tag_reader(after)(tag) == Tag(1, 2, 29_000_000)
    assert rule_of(after, query) == rule_of(before, query) != "bad_signature"
    assert rule_of(Settings(data_dir=tmp_path / "a"), query) == "bad_signature"
    assert wiring_events.sealer(after).key_id != wiring_events.sealer(before).key_id
    assert wiring.tag_reader(Settings(data_dir=tmp_path / "a"))(tag) is None


def test_a_file_of_earlier_event_keys_that_was_named_must_be_there(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, earlier_event_keys=tmp_path / "none")

    with pytest.raises(InvalidInput, match="none: RTA_EARLIER_EVENT_KEYS can't be read"):
        wiring_events.sealer(settings)
