"""What /metrics tells of answers: all of them, true to the letter, and nothing of anyone's text."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support import other_version

from tocsin import EventClassifier
from tocsin.drift import Profile
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_serving.drift import References, Window
from tocsin_serving.settings import Settings
from tocsin_serving.watch import Watch

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]
SERVE = [sys.executable, "-m", "tocsin.cli.main", "serve"]
STRIKE, LOOTING, NOTHING = (
    "An airstrike on a town.",
    "Looting or property destruction in a town.",
    "The minister spoke of a town.",
)
SPANISH = "El gobierno anunció ayer que los impuestos no subirán el próximo año en ninguna de las provincias."
DANISH = "Regeringen har besluttet, at skatterne ikke skal stige til næste år, sagde statsministeren i går aftes."


class Watched:
    """A watch whose metrics can be read, on a classifier."""

    def __init__(self, folder: Path, classifier: EventClassifier, *, reference: Profile | None = None) -> None:
        self.registry = CollectorRegistry()
        self.classifier = classifier
        settings = Settings(drift_min_texts=100)
        window = Window(folder / "drift.sqlite", seconds=3600)
        self.watch = Watch(window, settings, References(reference), registry=self.registry)
        self.watch.update(classifier.release)

    def saw(self, texts: Sequence[str], objective: str = "default") -> None:
        scores = self.classifier.score_batch(texts)
        self.watch.saw(self.classifier, scores, self.classifier.token_counts(texts), objective)

    def update(self) -> None:
        self.watch.update(self.classifier.release)

    def value(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value

    def texts(self, name: str) -> float:
        return self.value(f"tocsin_{name}_total", model_version=self.classifier.version)


@pytest.fixture
def watched(tmp_path: Path, tiny_classifier: EventClassifier) -> Watched:
    return Watched(tmp_path, tiny_classifier)


def profile(classifier: EventClassifier, texts: Sequence[str]) -> Profile:
    return Profile.of(classifier.score_batch(texts))


def test_every_series_starts_at_zero(watched: Watched) -> None:
    for name in ("texts", "texts_without_event", "texts_to_review", "texts_truncated", "texts_foreign"):
        assert watched.texts(name) == 0
    for label in watched.classifier.taxonomy.names:
        assert watched.value("tocsin_events_total", model_version="tiny-0", label=label) == 0


def test_answers_are_counted_by_what_they_say(watched: Watched) -> None:
    long = " ".join(["town"] * 100) + " airstrike"
    watched.saw([STRIKE, f"{STRIKE} {LOOTING}", NOTHING, SPANISH, long])
    expected = watched.classifier.classify_batch([STRIKE, f"{STRIKE} {LOOTING}", NOTHING, SPANISH, long])
    assert watched.texts("texts") == 5
    assert watched.texts("texts_without_event") == sum(not answer.events for answer in expected)
    assert watched.texts("texts_to_review") == sum(answer.needs_review for answer in expected)
    assert watched.texts("texts_truncated") == sum(answer.truncated for answer in expected) == 1
    assert watched.texts("texts_foreign") == sum(answer.language != "en" for answer in expected) == 1
    for label in watched.classifier.taxonomy.names:
        given = sum(event.label == label for answer in expected for event in answer.events)
        assert watched.value("tocsin_events_total", model_version="tiny-0", label=label) == given
    assert watched.value("tocsin_confidence_count", model_version="tiny-0") == 5
    tokens = watched.classifier.token_counts([STRIKE, f"{STRIKE} {LOOTING}", NOTHING, SPANISH, long])
    assert watched.value("tocsin_text_tokens_sum") == sum(tokens)


def test_rare_languages_share_one_series(watched: Watched) -> None:
    watched.saw([SPANISH, DANISH, STRIKE, "12345 67890"])
    told = {
        sample.labels["language"]: sample.value
        for family in watched.registry.collect()
        for sample in family.samples
        if sample.name == "tocsin_texts_by_language_total"
    }
    assert told == {"es": 1, "other": 1, "en": 1, "und": 1}


def test_drift_is_told_once_there_are_texts_enough(tmp_path: Path, tiny_classifier: EventClassifier) -> None:
    watched = Watched(tmp_path, tiny_classifier, reference=profile(tiny_classifier, [STRIKE, NOTHING] * 500))

    def alarm() -> tuple[float, float]:
        watched.update()
        return (
            watched.value("tocsin_drift_psi", quantity="first_answer"),
            watched.value("tocsin_drift_alarm", quantity="first_answer"),
        )

    watched.saw([LOOTING] * 99)
    index, alarmed = alarm()
    assert math.isnan(index)
    assert alarmed == 0
    watched.saw([LOOTING])
    index, alarmed = alarm()
    assert index > 1
    assert alarmed == 1
    watched.saw([STRIKE, NOTHING] * 2000)
    index, alarmed = alarm()
    assert index < 0.25
    assert alarmed == 0
    assert watched.value("tocsin_drift_window_texts") == 4100


def test_without_a_reference_nothing_is_said_of_drift_and_that_once(
    tmp_path: Path, tiny_classifier: EventClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        watched = Watched(tmp_path, tiny_classifier)
        watched.saw([LOOTING] * 200)
        watched.update()
    assert math.isnan(watched.value("tocsin_drift_psi", quantity="confidence"))
    assert watched.value("tocsin_drift_alarm", quantity="confidence") == 0
    assert watched.value("tocsin_drift_reference_texts") == 0
    assert watched.value("tocsin_drift_window_texts") == 400
    assert caplog.text.count("has no profile.json") == 1


def test_the_windows_profile_is_a_reference_from_which_nothing_has_drifted(
    tmp_path: Path, tiny_classifier: EventClassifier
) -> None:
    before = Watched(tmp_path, tiny_classifier)
    before.saw([STRIKE, NOTHING] * 100)
    before.update()
    accepted = before.watch.profile(tiny_classifier.release)
    assert accepted == profile(tiny_classifier, [STRIKE, NOTHING] * 100)
    after = Watched(tmp_path, tiny_classifier, reference=accepted)
    assert after.value("tocsin_drift_psi", quantity="first_answer") == pytest.approx(0, abs=1e-12)


def test_answers_by_other_thresholds_are_counted_but_not_held_against_the_reference(watched: Watched) -> None:
    watched.saw([STRIKE] * 5, objective="precision")
    watched.update()
    assert watched.texts("texts") == 5
    assert watched.value("tocsin_drift_window_texts") == 0


def test_a_change_of_release_is_told_and_starts_the_window_anew(
    tmp_path: Path, tiny_release: Path, tiny_classifier: EventClassifier
) -> None:
    watched = Watched(tmp_path, tiny_classifier)
    watched.saw([STRIKE])
    watched.classifier = EventClassifier.load(other_version(tiny_release, tmp_path / "new", "1"))
    watched.update()
    serving = {
        sample.labels["model_version"]: sample.value
        for family in watched.registry.collect()
        for sample in family.samples
        if sample.name == "tocsin_model_info"
    }
    assert serving == {"tiny-0": 0, "tiny-1": 1}
    assert watched.value("tocsin_drift_window_texts") == 0


def test_a_fault_in_counting_costs_no_answer_and_is_said_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    scores = watched.classifier.score_batch([STRIKE])
    for _ in range(3):
        watched.watch.saw(watched.classifier, scores, None, "default")  # type: ignore[arg-type]
    assert caplog.text.count("Answers are not counted") == 1
    assert STRIKE not in caplog.text


def metrics(url: str) -> dict[str, float]:
    """Every sample on /metrics by its name and labels, as Prometheus' own parser reads them."""
    text = httpx.get(f"{url}/metrics").text
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(url: str, name: str, *labels: str) -> float:
    found = metrics(url)
    return sum(
        value for key, value in found.items() if key.startswith(f"{name}[") and all(label in key for label in labels)
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)
    return condition()


@pytest.fixture(scope="module")
def profiled_release(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keyword model whose reference is half airstrikes and half nothing."""
    folder = other_version(tiny_release, tmp_path_factory.mktemp("profiled") / "release", "1")
    profile(EventClassifier.load(folder), [STRIKE, NOTHING] * 500).save(folder / LAYOUT.profile)
    write_manifest(folder, read_manifest(folder))
    return folder


def test_two_workers_tell_one_truth_and_a_killed_one_takes_nothing_along(
    serving: Serving, free_port: Callable[[], int], profiled_release: Path, environment: dict[str, str]
) -> None:
    port = free_port()
    command = [*SERVE, "--port", str(port), "--workers", "2", "--release", str(profiled_release)]
    patient = environment | {"TOCSIN_WORKERS": "2", "TOCSIN_DRIFT_MIN_TEXTS": "200"}
    with serving(command, port, patient) as url:
        for _ in range(40):
            # A connection each, so that both workers get some.
            httpx.post(f"{url}/classify", json={"texts": [LOOTING] * 10}, timeout=60).raise_for_status()
        httpx.post(f"{url}/classify_document", json={"document": f"{LOOTING}\n\n{NOTHING}"}, timeout=60)
        httpx.post(
            f"{url}/classify",
            content=f'{{"text": "{NOTHING}"}}\n' * 3,
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert total(url, "tocsin_texts_total") == 405
        assert total(url, "tocsin_events_total", "looting_property_destruction") == 401
        assert wait_for(lambda: total(url, "tocsin_drift_window_texts") == 405)
        assert total(url, "tocsin_drift_alarm") == 2
        assert total(url, "tocsin_model_info") == 1

        killed = serving_process(port)
        killed.kill()
        assert wait_for(lambda: not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE)
        assert wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert total(url, "tocsin_texts_total") == 405
        assert total(url, "tocsin_drift_window_texts") == 405
        folder = metrics_folder(port)
        assert wait_for(lambda: not list(folder.glob(f"gauge_live*_{killed.pid}.db")))


def serving_process(port: int) -> psutil.Process:
    """One of the worker processes of the server on a port."""
    (server,) = (p for p in psutil.process_iter(["cmdline"]) if _starts(p, port))
    return next(child for child in server.children(recursive=True) if _serves(child))


def _serves(process: psutil.Process) -> bool:
    try:
        return "service" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _starts(process: psutil.Process, port: int) -> bool:
    words = process.info["cmdline"] or []
    return "serve" in words and str(port) in words


def metrics_folder(port: int) -> Path:
    return Path(serving_process(port).environ()["PROMETHEUS_MULTIPROC_DIR"])


def test_two_servers_of_one_user_keep_their_metrics_apart(
    live: str, serving: Serving, free_port: Callable[[], int], tiny_release: Path, environment: dict[str, str]
) -> None:
    httpx.post(f"{live}/classify", json={"texts": [STRIKE]}, timeout=60).raise_for_status()
    before = total(live, "tocsin_texts_total")
    port = free_port()
    with serving([*SERVE, "--port", str(port), "--release", str(tiny_release)], port, environment) as other:
        assert total(other, "tocsin_texts_total") == 0
        httpx.post(f"{other}/classify", json={"texts": [STRIKE] * 3}, timeout=60).raise_for_status()
        assert total(other, "tocsin_texts_total") == 3
        assert total(live, "tocsin_texts_total") == before > 0


def test_nothing_that_anyone_sends_becomes_a_label(live: str) -> None:
    secret = "hiddensource"
    httpx.post(f"{live}/classify", json={"texts": [f"{secret} told of an airstrike."]}, timeout=60)
    httpx.post(f"{live}/classify", json={"texts": [""], secret: secret})
    httpx.get(f"{live}/{secret}/{secret}?text={secret}", headers={"X-Request-ID": secret, "User-Agent": secret})
    text = httpx.get(f"{live}/metrics").text
    assert secret not in text
    assert 'endpoint="other",http_response_code="404"' in text
    assert 'endpoint="/classify",http_response_code="200"' in text


def test_a_path_of_its_own_name_is_still_answered(live: str) -> None:
    assert httpx.get(f"{live}/static_content/swagger-ui.css").status_code == 200
    assert httpx.get(f"{live}/no/such/path").status_code == 404


def test_the_profile_is_given_as_counts(live: str) -> None:
    answer = Profile.model_validate(httpx.get(f"{live}/profile").json())
    assert answer.model_version == httpx.get(f"{live}/model").json()["model_version"]
