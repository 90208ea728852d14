"""What is looked at before anything starts."""

import json
import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.local.endpoints import remove_endpoints, write_endpoints
from infra.local.errors import LocalError
from infra.local.ports import free_port, is_free
from infra.local.preflight import own_directory, require_port, require_room
from infra.local.settings import LocalSettings
from infra.local.submit_key import KEY_NAME, development_key, submit_environment
from infra.local.system import System
from infra.local.webhook_secret import development_secret, random_base64
from shared.events.submit_keys import SubmitKeys


def test_a_taken_port_is_told_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            LocalError, match=rf"port {port}, for Kafka, is taken by .*{os.getpid()}.*--kafka-port"
        ):
            require_port(port, "Kafka", "--kafka-port")
    require_port(port, "Kafka", "--kafka-port")
    require_port(0, "Kafka", "--kafka-port")


def test_free_ports_are_out_of_the_way_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(50)}
    assert all(is_free(each) and each < lowest for each in ports)


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    with (
        own_directory(tmp_path),
        pytest.raises(LocalError, match=rf"already runs on {tmp_path} \(pid {os.getpid()}\)"),
        own_directory(tmp_path),
    ):
        pass
    with own_directory(tmp_path):
        pass


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="--data-dir"), own_directory(tmp_path / "file"):
        pass


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_room(tmp_path)
    monkeypatch.setattr("infra.local.preflight.DATA_BYTES", 1 << 60)
    with pytest.raises(LocalError, match="make room"):
        require_room(tmp_path)


def test_endpoints_are_replaced_whole_and_private(tmp_path: Path) -> None:
    write_endpoints(tmp_path, {"mysql": "first"})
    write_endpoints(tmp_path, {"mysql": "second"})
    path = tmp_path / "endpoints.json"
    assert json.loads(path.read_text()) == {"mysql": "second"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove_endpoints(tmp_path)
    remove_endpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_made_once_and_private_and_says_since_when(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    keys, unsigned_until = development_key(tmp_path)
    assert development_key(tmp_path) == (keys, unsigned_until)
    [path] = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = SubmitKeys.parse(keys, datetime.fromisoformat(unsigned_until))
    assert abs(made.unsigned_until_ms - began.timestamp() * 1000) < 60_000


def test_the_key_can_be_rotated_in_its_file(tmp_path: Path) -> None:
    old, unsigned_until = development_key(tmp_path)
    path = tmp_path / KEY_NAME
    path.write_text(f"subkey_{random_base64()} {old}\n{unsigned_until}\n")
    assert len(SubmitKeys.parse(development_key(tmp_path)[0]).keys) == 2


def test_given_keys_go_before_those_that_the_log_was_signed_with(tmp_path: Path) -> None:
    """What was signed with the directory's key, or before it was made, keeps its id beside a given key."""
    own, unsigned_until = development_key(tmp_path)
    given = f"subkey_{random_base64()}"
    found = submit_environment(tmp_path, {"CONSUMA_SUBMIT_KEYS": f"{given} {own}"})
    assert found == submit_environment(tmp_path, {"CONSUMA_SUBMIT_KEYS": given})
    assert found == {
        "CONSUMA_SUBMIT_KEYS": f"{given} {own}",
        "CONSUMA_SUBMIT_UNSIGNED_UNTIL": unsigned_until,
    }


@pytest.mark.parametrize("by_variable", [True, False])
def test_services_are_told_given_keys_and_those_of_the_directory(
    by_variable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, unsigned_until = development_key(tmp_path)
    given = {"CONSUMA_SUBMIT_KEYS": f"subkey_{random_base64()}"}
    for name, value in given.items() if by_variable else ():
        monkeypatch.setenv(name, value)
    settings = LocalSettings(data_dir=tmp_path, kafka="127.0.0.1:9", mysql="mysql+aiomysql://h/d")
    told = System(settings, environment={} if by_variable else given)._service_environment()
    assert told["CONSUMA_SUBMIT_KEYS"] == f"{given['CONSUMA_SUBMIT_KEYS']} {own}"
    assert told["CONSUMA_SUBMIT_UNSIGNED_UNTIL"] == unsigned_until


def test_a_given_time_goes_before_that_of_the_directory(tmp_path: Path) -> None:
    given = {"CONSUMA_SUBMIT_UNSIGNED_UNTIL": "2020-01-01T00:00:00Z"}
    assert submit_environment(tmp_path, given) == {
        "CONSUMA_SUBMIT_KEYS": development_key(tmp_path)[0],
        **given,
    }


def test_a_directory_without_a_key_leaves_given_ones_alone(tmp_path: Path) -> None:
    """A file made now would have every unsigned record until now believed."""
    assert submit_environment(tmp_path, {"CONSUMA_SUBMIT_KEYS": f"subkey_{random_base64()}"}) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{key}", "{key}\n{time}\nmore", "{time}\n{key}", "{key}\nsoon"])
def test_a_damaged_file_of_keys_is_told(content: str, tmp_path: Path) -> None:
    key, time = development_key(tmp_path)
    (tmp_path / KEY_NAME).write_text(content.format(key=key, time=time))
    with pytest.raises(LocalError, match=rf"{tmp_path / KEY_NAME} is damaged.*put a copy of it back") as told:
        development_key(tmp_path)
    assert key not in str(told.value)


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = development_secret(tmp_path)
    assert secret.startswith("whsec_")
    assert development_secret(tmp_path) == secret
    [path] = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
