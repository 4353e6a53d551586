"""Hugging Face ``datasets`` under one roof: it has no types, and its name is that of our data folder too."""

from datasets import (  # type: ignore[attr-defined]
    Dataset,
    DatasetDict,
    Features,
    List,
    Value,
    are_progress_bars_disabled,
    concatenate_datasets,
    disable_progress_bars,
    enable_progress_bars,
    load_dataset,
    load_from_disk,
)
from datasets import config as _config  # type: ignore[attr-defined]
from datasets.arrow_writer import ArrowWriter

# Or reading a file of one's own asks a host of Hugging Face's for "json", so that it counts how often that is read.
_config.HF_UPDATE_DOWNLOAD_COUNTS = False

__all__ = [
    "ArrowWriter",
    "Dataset",
    "DatasetDict",
    "Features",
    "List",
    "Value",
    "are_progress_bars_disabled",
    "concatenate_datasets",
    "disable_progress_bars",
    "enable_progress_bars",
    "load_dataset",
    "load_from_disk",
]
