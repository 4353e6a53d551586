"""What the table of the cascade says, of a release that settles everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cascade import as_table, measure
from support import add_settling_screen, make_tiny_release

from tocsin import UsageError

# The tiny release gives a label to the first two and to none of the others.
TEXTS = [
    ("An airstrike hit the market.", ["air_drone_strike"]),
    ("A peaceful protest was held.", ["peaceful_protest"]),
    ("Guns fell upon the camp.", ["armed_clash"]),
    ("Men with rifles were held.", ["arrests"]),
    ("The minister opened a school.", []),
    ("The bank was quiet on Tuesday.", []),
    # Of several windows, so that it is never settled.
    ("The town was quiet. " * 40 + "An airstrike followed.", ["air_drone_strike"]),
]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_settling_screen(make_tiny_release(tmp_path_factory.mktemp("release") / "tiny"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    records = [
        {"id": f"a-{number}", "text": text, "labels": labels, "register": "wire", "batch": "a"}
        | {"annotations": {"writer": labels}}
        | ({} if labels else {"reason": "politics"})
        for number, (text, labels) in enumerate(TEXTS)
    ]
    for split in ("train", "validation", "test"):
        (folder / split).mkdir()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / split / "a.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_only_events_that_the_encoder_finds_count_as_lost(release: Path, corpus: Path) -> None:
    found = measure(release, corpus, 0.5)
    assert (found.texts, found.settled, found.events_settled, found.events_lost) == (7, 1.0, 4 / 5, 2 / 5)
    assert found.mix == 4
    assert found.alone > 0 and found.cascade > 0
    table = as_table(found)
    assert "Release tiny-0 on the 7 texts" in table
    assert "| 40.00% |" in table and "| 80.00% |" in table


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none_is_refused(share: float, release: Path, corpus: Path) -> None:
    with pytest.raises(UsageError, match=f"--no-event-share {share}"):
        measure(release, corpus, share)
