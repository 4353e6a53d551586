"""What docs/python.md and the README say of the library, run; what they say of tables is in tests/serving."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re

import pytest
from pydantic import BaseModel
from support import ROOT

from tocsin import DocumentPrediction, Event, Prediction, Scores
from tocsin.prediction import DocumentSummary

LIBRARY, _ = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").split("\n## Tables\n")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# An example, and what it is said to print: behind "prints", a block set in by four spaces or words in backticks.
_EXAMPLE = re.compile(
    r"```python\n(?P<code>(?:.*\n)*?)```\n(?:\nprints(?: `(?P<words>[^`]*)`|\n\n(?P<lines>(?: {4}.*\n)+)))?"
)


def examples(page: str) -> list[tuple[str, str]]:
    """Code and what it should print, in the order of the page."""
    found = []
    for example in _EXAMPLE.finditer(page):
        lines = (example["lines"] or example["words"] or "").splitlines()
        found.append((example["code"], "".join(f"{line.removeprefix('    ')}\n" for line in lines)))
    return found


def run(code: str, names: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "example", "exec"), names)
    return printed.getvalue()


def test_the_examples_of_the_page_print_what_it_says() -> None:
    names: dict[str, object] = {}
    told = examples(LIBRARY)
    assert len(told) == LIBRARY.count("```python")
    for code, expected in told:
        assert run(code, names) == expected, code


def test_the_example_of_the_readme_prints_what_it_says() -> None:
    code, expected = examples(README)[0]
    assert "EventClassifier.load" in code and expected
    assert run(code, {}) == expected


def rows_under(heading: str) -> list[str]:
    """Names in the first column of the table under a heading in bold, up to the next text."""
    (table,) = re.findall(rf"\*\*{heading}\*\*.*?\n\n((?:\|.*\n)+)", LIBRARY)
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("answer", [Prediction, Event, DocumentPrediction, DocumentSummary])
def test_every_field_of_an_answer_is_on_the_page(answer: type[BaseModel]) -> None:
    assert rows_under(answer.__name__) == list(answer.model_fields)


def test_every_array_of_scores_is_on_the_page() -> None:
    assert rows_under("Scores") == [field.name for field in dataclasses.fields(Scores)]
