"""What SQLite writes about itself is no part of the rpm database."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from compose.rpm.database import without_writer_traces


def written(path: Path) -> bytes:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        database.executemany("INSERT INTO t (b) VALUES (?)", ((str(number) * 9,) for number in range(2000)))
        database.execute("CREATE INDEX i ON t (b)")
        database.execute("COMMIT")
        database.execute("VACUUM")
    return path.read_bytes()


def test_the_version_that_wrote_it_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    plain = without_writer_traces(written(path))
    other = bytearray(path.read_bytes())
    struct.pack_into(">I", other, 24, 77)
    struct.pack_into(">II", other, 92, 77, 3040001)
    gaps = 0
    for page in range(4096, len(other), 4096):
        cells, content = struct.unpack_from(">HH", other, page + 3)
        if content - 12 - 2 * cells > 8:
            # a trace of a cell that was moved
            other[page + content - 4 : page + content] = b"left"
            gaps += 1
    assert gaps > 1
    assert without_writer_traces(bytes(other)) == plain


def test_it_reads_as_before(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(without_writer_traces(written(path)))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA page_count").fetchall() == [(path.stat().st_size // 4096,)]
        assert database.execute("SELECT sum(length(b)) FROM t").fetchone()[0] > 0
        database.execute("INSERT INTO t (b) VALUES ('more')")
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
