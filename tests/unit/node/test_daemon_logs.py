from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from nodeport.node.daemonlog import turn_over
for number in range(60):
    print("out", number, flush=True)
    print("err", number, file=sys.stderr, flush=True)
    turn_over(Path(sys.argv[1]), 150)
"""


def run(log: Path, *words: str) -> None:
    with log.open("ab") as file:
        subprocess.run([sys.executable, "-c", PROGRAM, *words], stdout=file, stderr=file, check=True)


def test_a_daemons_log_is_set_aside_when_it_is_full_and_nothing_is_lost_at_the_turn(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    run(log, str(log))
    files = [tmp_path / name for name in ("server.log.2", "server.log.1", "server.log")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    lines = "".join(file.read_text() for file in files).splitlines()
    last = [f"{stream} {number}" for number in range(60) for stream in ("out", "err")]
    assert lines == last[-len(lines) :]
    assert len(lines) > 30
    assert all(file.stat().st_size < 200 for file in files)
    assert (tmp_path / "server.log.1").stat().st_mode & 0o077 == 0


def test_what_does_not_go_to_the_file_is_left_alone(tmp_path: Path) -> None:
    log, other = tmp_path / "server.log", tmp_path / "other.log"
    other.write_text("mine\n" * 100)
    run(log, str(other))
    assert other.read_text() == "mine\n" * 100
    assert len(log.read_text().splitlines()) == 120
