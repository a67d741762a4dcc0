"""Tables as CSV: one line per number, everything a spreadsheet or pandas needs."""

from __future__ import annotations

import csv
import io

from lit_restore.evaluation.table import Table

COLUMNS = (
    *("table", "part", "method", "metric", "higher_is_better", "ours", "low", "high", "photos", "photos_missing"),
    *("published", "difference", "why_missing", "warnings"),
)


def spreadsheet(table: Table) -> str:
    """All cells of a table, unrounded."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in table.parts:
        for row in part.rows:
            for column in part.columns:
                cell = row.cells[column.name]
                ours = cell.ours
                writer.writerow(
                    {
                        "table": table.name,
                        "part": part.published_id,
                        "method": row.name,
                        "metric": column.name,
                        "higher_is_better": column.higher_is_better,
                        "ours": ours and ours.mean,
                        "low": ours and ours.low,
                        "high": ours and ours.high,
                        "photos": ours and ours.num,
                        "photos_missing": cell.num_missing if ours else None,
                        "published": cell.published,
                        "difference": cell.difference,
                        "why_missing": cell.missing,
                        "warnings": " ".join((*part.warnings, *row.warnings)) if ours else None,
                    }
                )
    return text.getvalue()
