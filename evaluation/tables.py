"""The stress test's tables that ship with the code: where they are, what their rows are called by.

`evaluation.stress` writes them, `evaluation.evidence` and the page read them. Neither torch nor any
part of `adapters` is needed for that.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines.paths import ASSETS

TABLE = ASSETS / "evidence" / "llm.jsonl"
"""The table that ships with the code; `evaluation.stress` makes it."""

STYLES_TABLE = ASSETS / "evidence" / "llm_styles.jsonl"
"""What the arms do before an attack, plainly asked and in styles no defence was trained on."""

COMMAND = "python -m evaluation.stress llm --ship"
"""What makes the table."""

STYLES_COMMAND = "python -m evaluation.stress llm --unattacked --ship"
"""What makes `STYLES_TABLE`."""

UNSEEN_COMMAND = f"{COMMAND} --data unseen"
"""What measures attacks with requests of topics on which no defence was trained."""

UNDEFENDED = "aligned"
"""The arm that no defence was trained into, which is attacked beside every other one."""

Row = dict[str, Any]
"""One line of the table; see `evaluation.stress`."""


def read(path: Path | None = None) -> list[Row]:
    """Return the table's rows; none where there is no table.

    Args:
        path: of the table; None: `TABLE`.
    """
    try:
        text = (path or TABLE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a table; its folder is made if need be.

    Args:
        path: of the table, which is replaced.
        rows: all of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jsonl_text(rows), encoding="utf-8")


def csv_text(rows: Iterable[Row]) -> str:
    """Return all rows of the table as CSV; a column that a kind of row lacks is empty there.

    What is no number and no text (settings, labels, intervals) stands as JSON.
    """
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    lines = csv.DictWriter(out, columns, lineterminator="\n")
    lines.writeheader()
    for row in rows:
        lines.writerow(
            {name: json.dumps(value) if isinstance(value, dict | list | bool) else value
             for name, value in row.items()}
        )  # fmt: skip
    return out.getvalue()


def jsonl_text(rows: Iterable[Row]) -> str:
    """Return all rows of the table as JSON lines, as `evaluation.stress` writes them."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def method_of(row: Row) -> str:
    """Return how the attacker of a row trained, a key of `evaluation.wording.METHODS`.

    Rows of a table from before there was a choice name none: a LoRA it was then.
    """
    if row.get("learning_rate") is None:
        return "none"
    return row.get("method") or "lora"


def data_of(row: Row) -> str:
    """Return what the attacker of a row asked, a key of `adapters.attacks.data.OWN`."""
    return row.get("settings", {}).get("data", "builtin")
