"""Batch jobs: label the texts of CSV, JSON Lines and Parquet files.

>>> from tocsin_serving.batch import score_file
>>> score_file("reports.csv", "labelled.csv", text_column="notes").rows_rejected
0
"""

from __future__ import annotations

from tocsin_serving.batch.dry_run import dry_run_with_estimate
from tocsin_serving.batch.job import FileSummary, JobOptions, rows_kept, score_file
from tocsin_serving.batch.outputs import plan
from tocsin_serving.batch.progress import check_scored, run_with_progress
from tocsin_serving.batch.tables import score_table

__all__ = [
    "FileSummary",
    "JobOptions",
    "check_scored",
    "dry_run_with_estimate",
    "plan",
    "rows_kept",
    "run_with_progress",
    "score_file",
    "score_table",
]
