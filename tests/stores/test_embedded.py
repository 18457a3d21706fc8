import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from rta_service.domain.errors import StartupError
from rta_service.stores import embedded
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client


def put(url: str, value: str) -> None:
    with admin_client(url) as client:
        client.set("key", value)


def get(url: str) -> object:
    with admin_client(url) as client:
        return client.get("key")


def test_data_survives_a_clean_stop(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "a") as store:
        put(store.url, "kept")
        assert store.is_alive()
    assert not store.is_alive()
    assert not list((tmp_path / "a").glob("*.sock"))

    with EmbeddedStore(tmp_path / "a") as store:
        assert get(store.url) == b"kept"


def test_a_killed_server_is_restarted_with_its_data(own_store: EmbeddedStore) -> None:
    put(own_store.url, "kept")
    time.sleep(1.1)  # appendfsync everysec
    assert own_store._pid is not None
    os.kill(own_store._pid, signal.SIGKILL)
    while own_store.is_alive():
        time.sleep(0.01)

    own_store.start()

    assert own_store.is_alive()
    assert get(own_store.url) == b"kept"


def test_starting_twice_is_starting_once(own_store: EmbeddedStore) -> None:
    pid = own_store._pid

    assert own_store.start() == own_store.url
    assert own_store._pid == pid


_OWNER = """
import os, signal, sys
from pathlib import Path
from rta_service.stores.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
store.start()
print(store._pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_outlives_its_killed_owner_and_is_adopted(tmp_path: Path) -> None:
    owner = subprocess.run(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, check=False
    )
    assert owner.returncode == -signal.SIGKILL

    with EmbeddedStore(tmp_path) as store:
        assert store._pid == int(owner.stdout)
        assert store.is_alive()
        put(store.url, "x")
        assert get(store.url) == b"x"
    assert not Path(f"/proc/{int(owner.stdout)}").exists()


def test_a_left_over_socket_and_a_pid_of_something_else_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "store.sock").touch()
    (tmp_path / "store.pid").write_text(str(os.getpid()))

    with EmbeddedStore(tmp_path) as store:
        put(store.url, "x")


def test_a_hung_server_is_replaced(tmp_path: Path) -> None:
    first = EmbeddedStore(tmp_path)
    first.start()
    pid = first._pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    second = EmbeddedStore(tmp_path, silence_s=0.2)

    with second:
        assert second._pid != pid
        assert not first.is_alive()
        put(second.url, "x")


def test_a_stop_of_a_hung_server_ends(own_store: EmbeddedStore) -> None:
    assert own_store._pid is not None
    os.kill(own_store._pid, signal.SIGSTOP)

    own_store.stop(patience_s=0.1)

    assert not own_store.is_alive()


def test_a_path_too_long_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)

    with EmbeddedStore(folder) as store:
        put(store.url, "x")
        place = Path((folder / "store.socket-path").read_text())
        assert store.url == f"unix://{place}"
        assert EmbeddedStore(folder).start() == store.url
    assert not place.parent.exists()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")

    with pytest.raises(StartupError, match=r"does not start: .*appendonlydir"):
        EmbeddedStore(tmp_path).start()


def test_a_store_that_was_never_started_has_no_url_and_nothing_to_stop(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)

    store.stop()

    assert not store.is_alive()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = store.url


def test_nobody_else_may_open_the_socket(own_store: EmbeddedStore) -> None:
    path = Path(own_store.url.removeprefix("unix://"))

    assert path.stat().st_mode & 0o077 == 0
    with redis.Redis(unix_socket_path=str(path)) as client:
        assert client.config_get("port") == {"port": "0"}


def test_the_title_of_a_process_is_its_command_line() -> None:
    assert b"python" in embedded._title(os.getpid())


def test_a_server_that_somebody_uses_is_left_running(own_store: EmbeddedStore) -> None:
    with admin_client(own_store.url) as somebody:
        somebody.ping()
        own_store.stop_if_unused()
        used = own_store.is_alive()
    own_store.stop_if_unused()

    assert used
    assert not own_store.is_alive()


def test_who_adopted_a_server_does_not_stop_it(own_store: EmbeddedStore) -> None:
    adopter = EmbeddedStore(own_store._folder)
    adopter.start()

    adopter.stop_if_unused()

    assert own_store.is_alive()
