"""The tables that ship, as they are read and handed out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

from evaluation import tables
from pipelines.paths import REPO


def test_the_table_can_be_had_as_csv_and_as_it_is(table, tmp_path):
    rows = list(csv.DictReader(tables.csv_text(table).splitlines()))
    assert len(rows) == len(table)
    for row, line in zip(table, rows, strict=True):
        assert float(line["harm_after"]) == row["harm_after"] and line["row"] == row["row"]
        assert json.loads(line["settings"]) == row["settings"]
    (tmp_path / "again.jsonl").write_text(tables.jsonl_text(table))
    assert tables.read(tmp_path / "again.jsonl") == table


def test_reading_the_table_needs_neither_torch_nor_gradio():
    code = (
        "import sys, evaluation.evidence\n"
        "print(sorted({'torch', 'gradio', 'transformers', 'adapters'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
