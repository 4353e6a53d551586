"""A taxonomy made of the labels that people's files have."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tocsin.errors import InputError
from tocsin_training.importing.names import suggest_merges
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.reading import expand, file_facts, read_file
from tocsin_training.importing.store import Store
from tocsin_training.taxonomies import derive_taxonomy, write_taxonomy

MOST_LABELS = 100


def derived_taxonomy(paths: Sequence[Path], root: Path, options: ImportOptions) -> Path:
    """Write the taxonomy of the labels in some files under a folder, and say where.

    :raises InputError: there are so many that most are spellings of one another.
    """
    counts = label_counts(paths, root, options)
    if not counts:
        raise InputError("no row has a label, so there is no taxonomy to derive; `tocsin data` says why")
    if len(counts) > MOST_LABELS:
        merges = suggest_merges(counts)
        shown = ", ".join(f"{rare!r} for {common!r}" for rare, common in list(merges.items())[:8])
        raise InputError(
            f"{len(counts)} different labels are too many for a taxonomy; some may be spellings: {shown or 'none'}. "
            "Make them one in the files, or give a --taxonomy and a --names file"
        )
    key = hashlib.sha256(json.dumps(sorted(counts)).encode()).hexdigest()[:16]
    path = root / f"taxonomy-{key}.toml"
    write_taxonomy(derive_taxonomy(counts), path)
    return path


def label_counts(paths: Sequence[Path], root: Path, options: ImportOptions) -> dict[str, int]:
    """How many texts have each label, by the names that the files give."""
    root.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with TemporaryDirectory(prefix=".deriving-", dir=root) as scratch:
        store = Store(Path(scratch) / "rows.sqlite")
        try:
            for number, path in enumerate(expand(paths)):
                read_file(number, file_facts(path), options, store)
            for packed, texts in store.name_counts().items():
                counts.update(dict.fromkeys(json.loads(packed), texts))
        finally:
            store.close()
    return dict(counts)
