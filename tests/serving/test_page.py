"""The page at /, driven in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tocsin import EventClassifier

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium browser on the PATH")
PHONE: ViewportSize = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, live: str) -> Iterator[Page]:
    """The page, as it stands before anything is done; it must not complain in the end."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(live)
    yield page
    page.close()
    # A browser tells of each refused or broken request by itself.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def ask(page: Page, document: str) -> None:
    page.get_by_label("Article or report").fill(document)
    page.get_by_role("button", name="Find events").click()


def told(page: Page) -> str:
    # Asked from here: the page's own policy forbids scripts that look at it in its stead.
    alert = page.get_by_role("alert")
    expect(alert).not_to_be_empty(timeout=60_000)
    return str(alert.inner_text())


def test_the_page_shows_events_and_runs_nothing_from_the_text(page: Page, classifier: EventClassifier) -> None:
    document = "An airstrike hit <img src=x onerror=document.title='owned'> the market.\n\nRates were left unchanged."
    ask(page, document)
    page.wait_for_selector("#sentences li")
    shown = page.locator("#sentences li > p").all_inner_texts()
    tags = page.locator("#sentences .tag:not(.note)").count()
    assert page.title() != "owned"
    expected = classifier.classify_document(document)
    assert shown == [sentence.text for sentence in expected.sentences]
    assert tags == sum(len(sentence.events) for sentence in expected.sentences)


FOREIGN = "Homens armados mataram onze aldeões nas suas casas."


def test_text_that_is_not_read_is_said_to_be_and_not_to_be_without_event(page: Page) -> None:
    ask(page, FOREIGN)
    expect(page.locator("#sentences .tag")).to_have_text(["Not read: language pt"], timeout=60_000)
    overview = page.locator("#overview")
    expect(overview).to_have_text("Not read, so nothing is said of events: 1 sentence, language pt.")
    ask(page, f"Rates were left unchanged on Tuesday.\n\n{FOREIGN}")
    expect(overview).to_have_text("No event found in 1 sentence; 1 to review, 1 of them not read (language pt).")


def test_an_answer_fits_on_a_phone(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Find events").click()
    page.wait_for_selector("#sentences li")
    for box in ("documentElement", "querySelector('.scroll')"):
        wide, seen = page.evaluate(f"[document.{box}.scrollWidth, document.{box}.clientWidth]")
        assert wide <= seen, box


@pytest.mark.parametrize("document", ["", " \n "])
def test_no_text_is_said_to_be_none(page: Page, document: str) -> None:
    ask(page, document)
    assert "There is no text yet" in told(page)
    assert not page.locator("#answer").is_visible()


def test_a_document_that_is_too_long_is_said_to_be_and_stays(page: Page) -> None:
    document = "An airstrike hit the market. " * 7_000
    ask(page, document)
    assert "200000 characters" in told(page)
    assert page.get_by_label("Article or report").input_value() == document


@pytest.mark.parametrize(
    ("status", "content_type", "body", "message"),
    [
        (503, "application/json", '{"error": "The service is overloaded; try again in 7 s."}', "try again in 7 s"),
        (503, "text/html", "<h1>Service Unavailable</h1>", "The service is overloaded"),
        (502, "text/html", "<h1>Bad Gateway</h1>", "The service is not running"),
        (500, "text/plain", "oops", "The service answered 500"),
        (200, "text/html", "<h1>Please log in</h1>", "The service answered 200"),
    ],
)
def test_a_refusal_is_told_in_words_and_the_text_stays(
    page: Page, status: int, content_type: str, body: str, message: str
) -> None:
    page.route("**/classify_document", lambda route: route.fulfill(status=status, content_type=content_type, body=body))
    ask(page, "An airstrike hit the market.")
    assert message in told(page)
    assert page.get_by_label("Article or report").input_value() == "An airstrike hit the market."
    assert page.get_by_role("button", name="Find events").is_enabled()


def test_a_lost_connection_is_told_and_the_next_try_works(page: Page) -> None:
    page.route("**/classify_document", lambda route: route.abort("connectionreset"))
    ask(page, "An airstrike hit the market.")
    assert "cannot be reached" in told(page)
    page.unroute("**/classify_document")
    page.get_by_role("button", name="Find events").click()
    page.wait_for_selector("#sentences li")
    assert page.get_by_role("alert").inner_text() == ""
