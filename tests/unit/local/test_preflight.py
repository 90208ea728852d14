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
from infra.local.submit_key import KEY_NAME, development_key
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


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = development_secret(tmp_path)
    assert secret.startswith("whsec_")
    assert development_secret(tmp_path) == secret
    [path] = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
