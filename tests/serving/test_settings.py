"""Settings come from the environment, and what is wrong with one is said by its name."""

from __future__ import annotations

import pytest

from tocsin import UsageError
from tocsin_serving.settings import Settings


def test_every_setting_has_its_variable() -> None:
    given = {"TOCSIN_MAX_TEXTS": "7", "TOCSIN_WORKERS": "0", "TOCSIN_DRIFT_ALARM_PSI": "0.1", "TOCSIN_OTHER": "x"}
    assert Settings.from_environment(given) == Settings(max_texts=7, workers=0, drift_alarm_psi=0.1)
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TOCSIN_MAX_TEXTS", "0"),
        ("TOCSIN_MAX_TEXTS", "1.5"),
        ("TOCSIN_DRIFT_MIN_TEXTS", "-1"),
        ("TOCSIN_DRIFT_WINDOW_SECONDS", ""),
        ("TOCSIN_DRIFT_ALARM_PSI", "0"),
        ("TOCSIN_DRIFT_ALARM_PSI", "nan"),
        ("TOCSIN_DRIFT_ALARM_PSI", "inf"),
        ("TOCSIN_DRIFT_ALARM_PSI", "a lot"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable):
        Settings.from_environment({variable: value})
