"""How a release holds up where the average does not look: by kind of text, on altered text, and by who is the actor.

Part of ``evaluate``. Four questions: is it as good for every register, region and length; does the answer change when
only the spelling or a word that decides nothing does; are the deeds of every side read alike (``datasets/robustness``,
see ``probes``); and does it find events in plain text of other domains. Everything that is drawn is drawn with a fixed
seed, so a release has one set of figures.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.classifier import EventClassifier, Scores
from tocsin.taxonomy import Taxonomy
from tocsin_training import plots
from tocsin_training.arrays import Bools, Floats
from tocsin_training.augment import drop_punctuation, misspell
from tocsin_training.corpus import label_matrix
from tocsin_training.coverage import length_band, ordered
from tocsin_training.metrics import bootstrap_f1, false_alarms, proportion, weighted_f1
from tocsin_training.probes import Confusion, PlainText, Probe, ProbeSets, Swap, fill
from tocsin_training.regions import NOWHERE, UNKNOWN, region
from tocsin_training.report import Grid, percent, percent_interval

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset

_log = logging.getLogger(__name__)

Figures = dict[str, Any]

ALTERATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "upper case": lambda text, rng: text.upper(),
    "lower case": lambda text, rng: text.lower(),
    "typing errors": misspell,
    "no punctuation": lambda text, rng: drop_punctuation(text),
}
ALL = "all"
SPLIT = "the corpus"
"""Stands where a side would, for texts of the corpus, whoever did it."""
_SEED = 0
_DEALS = 9999
"""Times that actors are dealt to the sides by chance."""
_SHOWN_BELOW = 0.05
"""Chance of so great a difference between sides under which it is called one."""
_FEWEST = 10
"""Texts below which a share is not called the worst of several: chance would choose it."""
_SHOWN = {region(NOWHERE): "no country", UNKNOWN: "not recorded"}
"""Names of kinds that speak for themselves only in the corpus's own tables."""


def measure_robustness(
    classifier: EventClassifier,
    records: Dataset,
    scores: Scores,
    truth: Bools,
    *,
    sets: ProbeSets | None,
    bootstrap_samples: int,
) -> Figures:
    """All figures of robustness, as plain numbers under plain names.

    :param records: of a split of the corpus, with their ``scores`` and ``truth``.
    :param sets: made for it (``probes``); none leaves out what they are for.
    """
    texts = list(records["text"])
    kinds = {
        "register": list(records["register"]),
        "region": [region(country) for country in records["country"]],
        "words": [length_band(text) for text in texts],
    }
    reasons = list(records["reason"])
    figures: Figures = {
        "kinds": {
            kind: kind_figures(kind, names, truth, scores.given, reasons, samples=bootstrap_samples)
            for kind, names in kinds.items()
        },
        "altered": {
            name: _alteration_figures(classifier, alter, texts, scores, truth) for name, alter in ALTERATIONS.items()
        },
    }
    if sets is not None:
        figures |= _probe_figures(classifier, records, scores, truth, sets)
    return figures


def _probe_figures(
    classifier: EventClassifier, records: Dataset, scores: Scores, truth: Bools, sets: ProbeSets
) -> Figures:
    texts, labels = list(records["text"]), [tuple(names) for names in records["labels"]]
    figures: Figures = {
        "swapped": {swap.name: _swap_figures(classifier, swap, texts, labels, scores, truth) for swap in sets.swaps},
        "no_event": _no_event_figures(classifier, sets.no_event),
    }
    file = sets.actors
    asked = fill(file)
    if strange := sorted({name for probe in asked for name in probe.labels} - set(classifier.taxonomy.names)):
        _log.warning("sentences by side are not measured: the release has no label %s", ", ".join(strange))
        return figures
    given = classifier.score_batch([probe.text for probe in asked]).given
    actors = actor_figures(asked, given, file.confusions, classifier.taxonomy)
    for confusion in file.confusions:
        on_split = _confused(truth, scores.given, confusion, classifier.taxonomy)
        actors["confusions"][confusion.name][SPLIT] = _share_row(on_split, len(on_split)) | {"frames": len(on_split)}
    return figures | {"actors": actors}


def kind_figures(
    kind: str, names: Sequence[str], truth: Bools, given: Bools, reasons: Sequence[str | None], *, samples: int
) -> dict[str, Figures]:
    """F1 and false alarms of the texts of each name; no F1 where they report no event at all.

    :param kind: what the names tell of the texts, as ``coverage`` calls it; it decides their order.
    """
    of = np.array(names)
    figures: dict[str, Figures] = {}
    for name in ordered(kind, set(names)):
        rows = of == name
        row: Figures = {"texts": int(rows.sum())}
        if truth[rows].any():
            f1 = bootstrap_f1(truth[rows], given[rows], samples=samples)["weighted_f1"]
            row |= {"weighted_f1": f1.value, "low": f1.low, "high": f1.high}
        inside = [reason for reason, holds in zip(reasons, rows, strict=True) if holds]
        alarms = false_alarms(given[rows], inside)["all"]
        figures[name] = row | {
            "texts_without_event": alarms["texts"],
            "false_alarms": alarms["share"],
            "false_alarms_low": alarms["low"],
            "false_alarms_high": alarms["high"],
        }
    return figures


def _alteration_figures(
    classifier: EventClassifier,
    alter: Callable[[str, random.Random], str],
    texts: Sequence[str],
    scores: Scores,
    truth: Bools,
) -> Figures:
    rng = random.Random(_SEED)
    after = classifier.score_batch([alter(text, rng) for text in texts]).given
    return change_figures(scores.given, after, truth)


def change_figures(before: Bools, after: Bools, truth: Bools, *, texts: int | None = None) -> Figures:
    """Share of answers whose set of labels changed, and F1 before and after; all of shape (answers, labels).

    :param texts: how many texts they answer, where one is read in several ways; its answers stand or fall together,
        so the interval counts texts. None: each is another text.
    """
    changed = np.any(before != after, axis=1)
    share = proportion(int(changed.sum()), len(changed), observations=texts)
    return {
        "texts": len(changed) if texts is None else texts,
        "answers": len(changed),
        "changed": share.value,
        "low": share.low,
        "high": share.high,
        "weighted_f1_before": weighted_f1(truth, before) if truth.any() else None,
        "weighted_f1": weighted_f1(truth, after) if truth.any() else None,
    }


def _swap_figures(
    classifier: EventClassifier,
    swap: Swap,
    texts: Sequence[str],
    labels: Sequence[tuple[str, ...]],
    scores: Scores,
    truth: Bools,
) -> Figures:
    """As ``change_figures``, over the texts that have such a word, and the share changed by each word put in.

    Every other word of the set is put into every such text, so that all words are tried on the same texts.
    """
    swapped = [
        (row, word, variant)
        for row, (text, names) in enumerate(zip(texts, labels, strict=True))
        if swap.allows(names)
        for word, variant in swap.variants(text).items()
    ]
    rows = np.array([row for row, _, _ in swapped], dtype=np.intp)
    before = scores.given[rows]
    after = classifier.score_batch([variant for _, _, variant in swapped]).given if swapped else before
    changed: defaultdict[str, list[bool]] = defaultdict(list)
    for (_, word, _), differs in zip(swapped, np.any(before != after, axis=1), strict=True):
        changed[word].append(bool(differs))
    by_word = {word: _change_row(of) for word, of in sorted(changed.items())}
    return change_figures(before, after, truth[rows], texts=len(set(rows.tolist()))) | {"by_word": by_word}


def _change_row(changed: Sequence[bool]) -> Figures:
    share = proportion(sum(changed), len(changed))
    return {
        "texts": len(changed),
        "count": sum(changed),
        "changed": share.value,
        "low": share.low,
        "high": share.high,
    }


def _no_event_figures(classifier: EventClassifier, plain: Sequence[PlainText]) -> dict[str, Figures]:
    """Share of eventless texts that were given a label, for all and for each domain."""
    given = classifier.score_batch([text.text for text in plain]).given
    return dict(false_alarms(given, [text.domain for text in plain]))


def actor_figures(asked: Sequence[Probe], given: Bools, confusions: Sequence[Confusion], taxonomy: Taxonomy) -> Figures:
    """Whether the same deed is read alike whoever does it, by side.

    Intervals count frames, not texts: the texts of one frame share nearly all their words and stand or fall together.

    :param given: shape (probes, labels).
    """
    truth = label_matrix([list(probe.labels) for probe in asked], taxonomy)
    right: Bools = np.all(truth == given, axis=1)
    alike = [row for row, probe in enumerate(asked) if not probe.depends]
    depends = [row for row, probe in enumerate(asked) if probe.depends]
    flipped = _differs_from_its_frame(asked, given)
    return {
        "sides": {
            "right": _by_side(asked, alike, right),
            "flipped": _by_side(asked, alike, flipped),
            "right_where_the_side_decides": _by_side(asked, depends, right),
        },
        "sides_differ_p": _sides_differ_p(asked, alike, flipped),
        "frames": len({probe.frame for probe in asked}),
        "frames_read_alike": _share_of_frames(asked, alike, flipped),
        "confusions": {
            confusion.name: _confusion_by_side(asked, truth, given, confusion, taxonomy) for confusion in confusions
        },
    }


def _differs_from_its_frame(asked: Sequence[Probe], given: Bools) -> Bools:
    """Whether an answer is another than the commonest one to the same frame, shape (probes,)."""
    answers: defaultdict[int, Counter[bytes]] = defaultdict(Counter)
    for probe, row in zip(asked, given, strict=True):
        answers[probe.frame][row.tobytes()] += 1
    commonest = {frame: counts.most_common(1)[0][0] for frame, counts in answers.items()}
    return np.array([row.tobytes() != commonest[probe.frame] for probe, row in zip(asked, given, strict=True)])


def _sides_differ_p(asked: Sequence[Probe], rows: Iterable[int], holds: Bools) -> float | None:
    """How often shares by side would differ so much if actors were dealt to the sides by chance (a permutation test).

    What is dealt is actors with all their sentences, for a name that is read badly is so in each of them. None where
    something holds of no sentence or of all, so that there is nothing to differ.
    """
    of_actor: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in rows:
        of_actor[asked[row].side, asked[row].actor].append(bool(holds[row]))
    shares = np.array([np.mean(held) for held in of_actor.values()])
    if not len(shares) or shares.min() == shares.max():
        return None
    side_of = np.array([side for side, _ in of_actor])
    member = side_of[:, None] == np.unique(side_of)

    def spread(dealt: Floats) -> Floats:
        """Between sides, as in an analysis of variance, but for what no dealing changes."""
        result: Floats = ((dealt @ member) ** 2 / member.sum(axis=0)).sum(axis=-1)
        return result

    dealt = np.random.default_rng(_SEED).permuted(np.tile(shares, (_DEALS, 1)), axis=1)
    # Rounding must not make the same spread a smaller one.
    return float((1 + (spread(dealt) >= spread(shares) - 1e-9).sum()) / (1 + _DEALS))


def _share_of_frames(asked: Sequence[Probe], rows: Iterable[int], flipped: Bools) -> float | None:
    """Share of frames of which every answer was the same; none where there are no frames."""
    of_frame: defaultdict[int, list[bool]] = defaultdict(list)
    for row in rows:
        of_frame[asked[row].frame].append(bool(flipped[row]))
    return float(np.mean([not any(answers) for answers in of_frame.values()])) if of_frame else None


def _confusion_by_side(
    asked: Sequence[Probe], truth: Bools, given: Bools, confusion: Confusion, taxonomy: Taxonomy
) -> dict[str, Figures]:
    """Share of the texts with events of one type only that were given a label of the other."""
    concerned, mistaken = _confusion(truth, given, confusion, taxonomy)
    return _by_side(asked, np.flatnonzero(concerned), mistaken)


def _confused(truth: Bools, given: Bools, confusion: Confusion, taxonomy: Taxonomy) -> Bools:
    """Whether each text that could be mistaken so was."""
    concerned, mistaken = _confusion(truth, given, confusion, taxonomy)
    return mistaken[concerned]


def _confusion(truth: Bools, given: Bools, confusion: Confusion, taxonomy: Taxonomy) -> tuple[Bools, Bools]:
    """Which texts have events of the one type only, and which were given a label of the other; shape (texts,)."""
    true_type, wrong_type = (_columns(taxonomy, name) for name in (confusion.truth, confusion.answer))
    concerned: Bools = np.any(truth, axis=1) & ~np.any(truth[:, ~true_type], axis=1)
    mistaken: Bools = np.any(given[:, wrong_type], axis=1)
    return concerned, mistaken


def _columns(taxonomy: Taxonomy, event_type: str) -> Bools:
    name = taxonomy.find_event_type(event_type).name
    return np.array([label.event_type == name for label in taxonomy.labels])


def _by_side(asked: Sequence[Probe], rows: Iterable[int], holds: Bools) -> dict[str, Figures]:
    """Share of which something holds, for each side in the order of the file and for all."""
    of_side: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        of_side[asked[row].side].append(int(row))
        of_side[ALL].append(int(row))
    figures = {}
    for side in (*(name for name in of_side if name != ALL), *((ALL,) if of_side else ())):
        frames = len({asked[row].frame for row in of_side[side]})
        figures[side] = _share_row(holds[of_side[side]], frames) | {"frames": frames}
    return figures


def _share_row(holds: Bools, observations: int) -> Figures:
    """How often something holds, with an interval that counts so many observations."""
    count = int(holds.sum())
    share = proportion(count, len(holds), observations=observations)
    return {"share": share.value, "count": count, "texts": len(holds), "low": share.low, "high": share.high}


def summary(figures: Figures) -> Figures:
    """The few figures that travel in a manifest, as plain numbers."""
    short: Figures = {
        f"changed_by_{name.replace(' ', '_')}": round(row["changed"], 4) for name, row in figures["altered"].items()
    }
    for name, row in figures.get("swapped", {}).items():
        short[f"changed_by_{name.replace(' ', '_')}"] = round(row["changed"], 4)
    if "no_event" in figures:
        short["false_alarms_other_domains"] = round(figures["no_event"][ALL]["share"], 4)
    if actors := figures.get("actors"):
        sides = actors["sides"]
        # Where every frame's labels depend on the side, none is there to flip.
        if ALL in sides["flipped"]:
            short["flipped_by_actor"] = round(sides["flipped"][ALL]["share"], 4)
        for name, rows in actors["confusions"].items():
            if ALL in rows:
                short[name.replace(" ", "_")] = round(rows[ALL]["share"], 4)
    return short


def grids(figures: Figures) -> list[Grid]:
    """The figures as tables."""
    built = [_kinds_grid(figures["kinds"]), _changes_grid("altered text", figures["altered"])]
    if "swapped" in figures:
        built.append(_changes_grid("words that decide nothing, swapped", figures["swapped"]))
        built.append(_words_grid(figures["swapped"]))
        built.append(_no_event_grid(figures["no_event"]))
    if actors := figures.get("actors"):
        built += [_sides_grid(actors), _confusions_grid(actors["confusions"])]
    return built


def _kinds_grid(kinds: Mapping[str, Mapping[str, Figures]]) -> Grid:
    rows = [
        (
            kind,
            _SHOWN.get(name, name),
            f"{row['weighted_f1']:.3f}" if "weighted_f1" in row else "",
            f"{row['low']:.3f} - {row['high']:.3f}" if "weighted_f1" in row else "",
            percent(row["false_alarms"]) if row["texts_without_event"] else "",
            percent_interval(row["false_alarms_low"], row["false_alarms_high"]) if row["texts_without_event"] else "",
            str(row["texts"]),
        )
        for kind, names in kinds.items()
        for name, row in names.items()
    ]
    heads = ("", "", "weighted F1", "95 % interval", "eventless texts labelled", "95 % interval", "texts")
    return Grid("by kind of text", heads, tuple(rows))


def _changes_grid(title: str, changes: Mapping[str, Figures]) -> Grid:
    rows = [
        (
            name,
            percent(row["changed"]),
            percent_interval(row["low"], row["high"]),
            "" if row["weighted_f1"] is None else f"{row['weighted_f1_before']:.3f} -> {row['weighted_f1']:.3f}",
            str(row["texts"]),
        )
        for name, row in changes.items()
    ]
    return Grid(title, ("", "answers changed", "95 % interval", "weighted F1", "texts"), tuple(rows))


def _words_grid(swapped: Mapping[str, Figures]) -> Grid:
    """The word of each set that changes most answers when it is put in; words with few texts are left out."""
    rows = [
        (
            name,
            word,
            f"{row['count']} of {row['texts']}",
            percent(row["changed"]),
            percent_interval(row["low"], row["high"]),
        )
        for name, figures in swapped.items()
        if (worst := worst_word(figures)) is not None
        for word, row in [worst]
    ]
    heads = ("", "word", "texts", "answers changed by putting it in", "95 % interval")
    title = f"the word of each set that changes most, of those put into {_FEWEST} texts or more"
    return Grid(f"{title} (picked as the worst, so each looks worse than it is)", heads, tuple(rows))


def worst_word(figures: Figures) -> tuple[str, Figures] | None:
    """The word of a set of swaps that changes most answers, and its figures; none where all were put in too seldom."""
    often = {word: row for word, row in figures["by_word"].items() if row["texts"] >= _FEWEST}
    return max(often.items(), key=lambda item: float(item[1]["changed"])) if often else None


def _no_event_grid(domains: Mapping[str, Figures]) -> Grid:
    rows = [
        (domain, percent(row["share"]), percent_interval(row["low"], row["high"]), str(row["texts"]))
        for domain, row in domains.items()
    ]
    return Grid(
        "text without event, made for measuring", ("domain", "given a label", "95 % interval", "texts"), tuple(rows)
    )


def _sides_grid(actors: Figures) -> Grid:
    sides = actors["sides"]
    right, flipped, decided = (sides[key] for key in ("right", "flipped", "right_where_the_side_decides"))
    rows = [
        (
            side,
            *_share_cells(right.get(side))[:2],
            *_share_cells(flipped.get(side))[1:],
            *_share_cells(decided.get(side)),
        )
        for side in right or decided
    ]
    heads = (
        "side",
        *("texts right whoever acts", "share"),
        *("answer flips with the actor", "95 % interval"),
        *("texts right where the side decides", "share", "95 % interval"),
    )
    title = f"the same deed by every side, in {actors['frames']} sentences of our own, each with every actor"
    if (alike := actors["frames_read_alike"]) is not None:
        title += f"; {percent(alike)} of those that no actor changes are read alike with all of them"
    return Grid(title, heads, tuple(rows))


def _share_cells(row: Figures | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    return (
        f"{row['count']} of {row['texts']}",
        percent(row["share"]),
        percent_interval(row["low"], row["high"]),
    )


def _confusions_grid(confusions: Mapping[str, Mapping[str, Figures]]) -> Grid:
    rows = [(name, side, *_share_cells(row)) for name, sides in confusions.items() for side, row in sides.items()]
    return Grid(
        "mistaken deeds, by the side that did them", ("", "side", "texts", "share", "95 % interval"), tuple(rows)
    )


def cautions(figures: Figures) -> list[str]:
    """What whoever compares sides or counts loaded words has to know, a sentence each; none where it is unmeasured."""
    said = []
    if actors := figures.get("actors"):
        sides = {side: row for side, row in actors["sides"]["flipped"].items() if side != ALL}
        side = max(sides, key=lambda name: float(sides[name]["share"]), default=None)
        if side is not None and sides[side]["count"]:
            least = min(sides, key=lambda name: float(sides[name]["share"]))
            said.append(
                f"{_verdict_on_sides(actors)}: of sentences that should be read alike whoever acts, the answer flips "
                f"for {_counted(sides[side])} where the side is `{side}`, the most, and for {_counted(sides[least])} "
                f"where it is `{least}`, the least. Do not compare sides by counts of its labels alone."
            )
        decided = {name: row for name, row in actors["sides"]["right_where_the_side_decides"].items() if name != ALL}
        if decided:
            side = min(decided, key=lambda name: float(decided[name]["share"]))
            said.append(
                f"Where the side decides the label, as in who takes a place, it is weakest for `{side}`: "
                f"{_counted(decided[side])} right (95 % interval "
                f"{percent_interval(decided[side]['low'], decided[side]['high'])}, for these are copies of "
                f"{decided[side]['frames']} sentences)."
            )
    if swapped := figures.get("swapped"):
        name = max(swapped, key=lambda key: float(swapped[key]["changed"]))
        row = swapped[name]
        if row["changed"]:
            word = worst_word(row)
            worst = "" if word is None else f"; `{word[0]}` most, {_counted(word[1])}"
            said.append(
                f"Words that should decide nothing do: swapping {name} changes {percent(row['changed'])} of answers "
                f"({percent_interval(row['low'], row['high'])}, {row['texts']} texts{worst})."
            )
    return said


def _verdict_on_sides(actors: Figures) -> str:
    # Figures that an earlier version measured lack it.
    chance = actors.get("sides_differ_p")
    if chance is None:
        return "No difference beyond chance was shown between sides"
    said = "It does not read every side alike" if chance < _SHOWN_BELOW else "No difference beyond chance was shown"
    return f"{said} (p = {chance:.2g} of a permutation test over actors)"


def _counted(row: Figures) -> str:
    share = row["share"] if "share" in row else row["changed"]
    return f"{row['count']} of {row['texts']} ({percent(share)})"


def draw(figures: Figures, path: Path) -> None:
    """What changes answers, and the mistakes by side, as bars in one PNG file."""
    changes = {**figures["altered"], **figures.get("swapped", {})}
    panels = {"answers changed by": [(name, row["changed"], row["low"], row["high"]) for name, row in changes.items()]}
    if actors := figures.get("actors"):
        shown = {"answer flips when the actor is": actors["sides"]["flipped"], **actors["confusions"]}
        panels |= {
            title: [(side, row["share"], row["low"], row["high"]) for side, row in sides.items()]
            for title, sides in shown.items()
            if sides
        }
    plots.shares(panels, path)
