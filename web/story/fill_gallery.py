"""Makes many rows of the finished pictures of a stopped server: fill_gallery.py DATABASE ROWS.

Each new row shows the files of one that was really drawn; drawing ten thousand would take an hour.
"""

import sqlite3
import sys

database, rows = sys.argv[1], int(sys.argv[2])
link = sqlite3.connect(database)
drawn = [id for (id,) in link.execute("SELECT id FROM jobs WHERE status = 'completed' ORDER BY id")]


def copy(table: str, key: str, source: str, changes: dict) -> None:
    """Inserts the rows of `table` whose `key` is `source` once more, changed."""
    found = link.execute(f"SELECT * FROM {table} WHERE {key} = ?", (source,))
    names = [column[0] for column in found.description]
    for row in found.fetchall():
        values = dict(zip(names, row)) | changes
        marks = ", ".join("?" * len(names))
        link.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", [values[name] for name in names])


latest = link.execute("SELECT max(created_at_ms) FROM jobs").fetchone()[0]
for i in range(rows - len(drawn)):
    source = drawn[i % len(drawn)]
    id = f"{source[:23]}-{i:012x}"
    times = {"id": id, "created_at_ms": latest - 1000 * (i + 1)}
    copy("jobs", "id", source, times)
    copy("generations", "id", source, times)
    copy("outputs", "job_id", source, {"job_id": id})
link.commit()
print(link.execute("SELECT count(*) FROM generations").fetchone()[0])
