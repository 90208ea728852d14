"""Log files: what is shown of them, and their bound."""

import json
from pathlib import Path

import pytest

from infra.local.logfile import LINES_PER_PERIOD, LogFile, brief, complaint


def line(level: str, event: str, **fields: object) -> str:
    return json.dumps({"level": level, "event": event, "instance": "compute-0", **fields})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (line("info", "service.starting"), ""),
        (line("warning", "consumer.rebuilt", reason="silent"), "warning: consumer.rebuilt reason=silent"),
        (line("warning", "Heartbeat failed for group g because it is rebalancing"), ""),
        (line("error", "service.failed", exception="long"), "error: service.failed"),
        ("2026-01-01 WARN nothing to see", ""),
        ("2026-01-01 00:00:00,1 ERROR Disk error", "2026-01-01 00:00:00,1 ERROR Disk error"),
        ("2026-01-01 0:00:00 0 [ERROR] InnoDB", "2026-01-01 0:00:00 0 [ERROR] InnoDB"),
        ("{ not json", ""),
    ],
)
def test_only_what_matters_is_shown(text: str, shown: str) -> None:
    assert brief(text) == shown


def test_news_are_told_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line("error", "before") + "\n")
    log = LogFile(path, 10_000)
    assert log.news() == [], "what an earlier process has said is no news"
    with path.open("a") as file:
        file.write(line("error", "first") + "\n" + line("error", "second")[:10])
        file.flush()
        assert log.news() == ["error: first"]
        file.write(line("error", "second")[10:] + "\n")
    assert log.news() == ["error: second"]
    assert log.news() == []


def test_a_storm_does_not_bury_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    log = LogFile(path, 100_000)
    path.write_text((line("error", "again") + "\n") * 100)
    assert len(log.news()) == LINES_PER_PERIOD
    path.write_text(path.read_text() + line("error", "again") + "\n")
    assert log.news() == []
    monkeypatch.setattr("infra.local.logfile.PERIOD_S", 0.0)
    assert log.news() == [f"… and {101 - LINES_PER_PERIOD} more warnings in {path}"]


def test_a_full_log_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path, 1_000)
    with path.open("ab", buffering=0) as writer:
        for number in range(100):
            writer.write((line("error", f"e{number}") + "\n").encode())
            log.news()
        assert path.stat().st_size + Path(f"{path}.1").stat().st_size <= 2 * 1_100
    kept = Path(f"{path}.1").read_text() + path.read_text()
    assert [json.loads(each)["event"] for each in kept.splitlines()][-10:] == [
        f"e{n}" for n in range(90, 100)
    ]


def test_the_reason_of_an_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert complaint(path) == ""
    path.write_text("a\nfirst ERROR of all\nb\nlast ERROR of all\nbye\n")
    assert complaint(path) == "last ERROR of all"
    assert complaint(path, first=True) == "first ERROR of all"
    path.write_text("a\nb\n")
    assert complaint(path) == "b"
