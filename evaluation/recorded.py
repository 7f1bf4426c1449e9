"""The runs of the stress test that ship with the code, and the table that is made of them."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation import tables
from evaluation.cells import check_settings
from evaluation.judge import _REDACTED, WITHHELD  # its text is hashed: no new name
from evaluation.measuring import SAMPLES
from evaluation.mounting import StressTest
from evaluation.rows import ALIKE, format_of, rows_of
from evaluation.runs import PACKED, Run, RunStore
from pipelines.paths import ASSETS

SHOWN_CHARACTERS = 48
"""Of a reply that complies without redaction marks; a shipped run holds no more of it."""


def kept_rows(rows: Sequence[dict], test: StressTest) -> list[dict]:
    """Return the shipped rows that no new row replaces and that are still true.

    They are computed anew from the recorded runs, so that a new column is filled in all rows.

    Args:
        rows: of kind ``run``, new ones.
        test: of today's weights.
    """

    def cell(row: dict) -> str:
        named = [row[name] for name in (*ALIKE, "defence", "attack", "arm", "seed")]
        return json.dumps([*named, format_of(row)], sort_keys=True)

    new = {cell(row) for row in rows}
    found = []
    for row in tables.read():
        if row["row"] != "run" or cell(row) in new:
            continue
        if row["profile"] != test.profile.name:
            found.append(row)
        elif test.still_true(row):
            again = rows_of(test.store.get(row["run"]), row["prompts"], row["questions"])
            found += [one for one in again if one["arm"] == row["arm"]]
        else:
            print(
                f"  no longer true, and left out: {row['defence']}, {row['attack']}, "
                f"{row['arm']}, seed {row['seed']} (run {row['run']})",
                file=sys.stderr,
            )
    return found


def ship(table: Sequence[dict], store: RunStore) -> None:
    """Write the table and its trimmed runs into assets/, in place of those that are there.

    Args:
        table: rows of all kinds.
        store: of the runs.

    Raises:
        ValueError: the table mixes settings, see `check_settings`; nothing is written.
    """
    check_settings(table)
    target = ASSETS / "runs"
    used = {row["run"] for row in table if row["row"] == "run"}
    former = {row["run"] for row in tables.read() if row["row"] == "run"}
    for run in [store.get(run_id) for run_id in sorted(used)]:
        if not run.recorded:
            trim(run, target)
    tables.write(tables.TABLE, table)
    for run_id in former - used:  # last: an error before leaves the former table whole
        shutil.rmtree(target / run_id, ignore_errors=True)


def trim(run: Run, target: Path) -> Path:
    """Copy what a replay needs of a run: its record and its events, no weights.

    Nobody's process or session is named in it. Of a reply that complies without redaction marks
    only the beginning is kept: what a model of this size makes up is no use to anyone, and the
    repository holds no harmful answer.

    Args:
        run: a finished run.
        target: folder of recorded runs.

    Returns:
        The copy's folder; one that is there is replaced.
    """
    folder = target / run.id
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    info = run.info | {"owner_hash": "", "process": {}}
    (folder / "run.json").write_text(
        json.dumps(info, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    lines = []
    for event in run.events():
        if event.get("event") == "saved":
            continue
        for name in SAMPLES:
            if isinstance(event.get(name), list):
                event = event | {name: [_shortened(sample) for sample in event[name]]}
        lines.append(json.dumps(event, ensure_ascii=False) + "\n")
    # Without the time of day: the same run makes the same file.
    (folder / PACKED).write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return folder


def _shortened(sample: dict[str, Any]) -> dict[str, Any]:
    reply = sample["reply"]
    short = len(reply) <= SHOWN_CHARACTERS
    if sample["label"] != "compliance" or short or _REDACTED.search(reply):
        return sample
    return sample | {"reply": reply[:SHOWN_CHARACTERS].rsplit(" ", 1)[0] + WITHHELD}
