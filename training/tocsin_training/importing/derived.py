"""A taxonomy made of the labels that people's files have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.disk import atomic
from tocsin.errors import InputError, TaxonomyError, UsageError
from tocsin.taxonomy import Taxonomy
from tocsin.text import fold
from tocsin_training.importing.layouts import Draft, lay_out
from tocsin_training.importing.names import own_names, suggest_merges
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.progress import Progress
from tocsin_training.importing.reading import expand, file_facts, have_named, key_of, refusing
from tocsin_training.importing.tables import BadRow, open_table
from tocsin_training.taxonomies import derive_taxonomy, to_toml, write_taxonomy

MOST_LABELS = 100
_HEADER = "# Derived from data. The definitions say nothing yet: write them, for people and for the model's card.\n\n"


@dataclass
class LabelCounts:
    """What was counted in some files."""

    labels: Counter[str] = field(default_factory=Counter)
    """Label as the files, or the user's list of names, spell it -> rows that have it."""
    bad_rows: int = 0
    """Rows that could not be read, and so are not in the counts."""

    def by_label(self, taxonomy: Taxonomy) -> Counter[str]:
        """The same by the labels of a taxonomy that has all these names."""
        found = Counter[str]()
        for name, rows in self.labels.items():
            found[taxonomy.find(name).label] += rows
        return found


def derived_taxonomy(
    paths: Sequence[Path], root: Path, options: ImportOptions, progress: Progress | None = None
) -> Path:
    """Write the taxonomy of the labels in some files under a folder, or find it there, and say where.

    :raises InputError: there are so many that most are spellings of one another.
    """
    path = root / f"taxonomy-{key_of([file_facts(path) for path in expand(paths)], options)}.toml"
    if path.is_file():
        return path
    counts = label_counts(paths, options, progress=progress).labels
    if len(counts) > MOST_LABELS:
        merges = suggest_merges(counts)
        shown = ", ".join(f"{rare!r} for {common!r}" for rare, common in list(merges.items())[:8])
        raise InputError(
            f"{len(counts)} different labels are too many for a taxonomy; some may be spellings: {shown or 'none'}. "
            "Make them one in the files, or give a --taxonomy and a --names file"
        )
    taxonomy = _derived(paths, counts)
    with refusing(root):
        root.mkdir(parents=True, exist_ok=True)
        # Whole or not there: it is not looked into when it is found again.
        with atomic(path) as file:
            file.write(to_toml(taxonomy).encode())
    return path


def derive_files(
    paths: Sequence[Path], target: Path | None, options: ImportOptions, *, overwrite: bool = False
) -> tuple[Taxonomy, LabelCounts]:
    """Derive the taxonomy of some files and write it. Their rows need no texts where the labels' column is named.

    :param target: none writes nothing.
    :raises UsageError: the target exists.
    """
    if target is not None and target.exists() and not overwrite:
        raise UsageError(f"{target} exists; --overwrite replaces it.")
    counts = label_counts(paths, options, texts=False)
    taxonomy = _derived(paths, counts.labels)
    if target is not None:
        write_taxonomy(taxonomy, target, header=_HEADER)
    return taxonomy, counts


def _derived(paths: Sequence[Path], counts: Mapping[str, int]) -> Taxonomy:
    try:
        return derive_taxonomy(counts)
    except TaxonomyError as error:
        raise TaxonomyError(f"{', '.join(map(str, paths))}: {error}") from error


def label_counts(
    paths: Sequence[Path], options: ImportOptions, *, texts: bool = True, progress: Progress | None = None
) -> LabelCounts:
    """How many rows have each label, in any files that `tocsin train --data` reads; a row at a time.

    :param texts: whether to count only in rows that have a text.
    :param progress: told how many rows were counted; none says nothing.
    :raises InputError: a file cannot be read or no row has a label.
    :raises UsageError: a column that the user named is not there.
    """
    counts, progress = LabelCounts(), progress or Progress()
    files = expand(paths)
    lenient = have_named(files, options, texts=texts)
    own = {} if options.names is None else own_names(options.names)
    for path in files:
        with open_table(path, options) as table:
            laid = lay_out(table, options, texts=texts, lenient=lenient)
            for row in progress.over(f"counting labels of {path.name}", laid.rows, table.share):
                if isinstance(row, BadRow):
                    counts.bad_rows += 1
                elif isinstance(found := laid.read(row.cells), Draft):
                    labels = (own.get(fold(name), name) for name in found.names)
                    counts.labels.update(dict.fromkeys(filter(None, labels), 1))
    if not counts.labels:
        raise InputError("no row has a label, so there is no taxonomy to derive; `tocsin data` says why")
    return counts
