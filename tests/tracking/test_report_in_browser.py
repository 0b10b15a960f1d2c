"""A report in a real browser: it draws, sorts, shows untrusted text as text, asks for nothing, and fits a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, missing
from run_folders import ATTRIBUTE, CAPTIONS, SCRIPT, make_run

from rlcap.tracking.report import write_report

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
pytest.importorskip("pycocoevalcap", reason="validation CIDEr comes from pycocoevalcap: pip install 'rlcap[coco]'")

IDS = "return [...document.querySelectorAll('.card .identity')].map((own) => own.textContent)"
CHOOSE = """
    const labels = [...document.querySelectorAll('.tools label')];
    const select = labels.find((own) => own.textContent.startsWith(arguments[0])).querySelector('select');
    select.value = arguments[1];
    select.dispatchEvent(new Event('change'));
"""

PUT = """
    const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    field.dispatchEvent(new Event('input'));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    xe = make_run(folder / "xe", evaluations={10: CAPTIONS[0]}, learning_rate=1e-3)
    scst = make_run(folder / "scst")
    write_report([xe, scst], folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        opened.requests()
        opened.open(report)
        yield opened


def test_nothing_is_asked_for_and_nothing_goes_wrong(browser: Browser, report: Path) -> None:
    asked = [
        address for address in browser.requests() if not address.startswith(("data:", "chrome:", "chrome-untrusted:"))
    ]
    assert asked == [report.resolve().as_uri()]
    assert browser.console() == []
    assert browser.run("return document.querySelectorAll('section h2').length") == 4
    assert browser.run("return [...document.images].map((own) => own.naturalWidth)") == [288] * 3


def test_untrusted_text_is_text(browser: Browser) -> None:
    assert browser.run("return document.title") == "xe · scst · rlcap report"
    assert SCRIPT in browser.run(IDS)
    text = browser.run("return document.getElementById('captions').textContent")
    assert ATTRIBUTE in text
    assert browser.run("return document.querySelectorAll('script, [onerror]').length") == 2


def test_the_gallery_is_sorted_by_gain_and_by_loss(browser: Browser) -> None:
    gains = "return [...document.querySelectorAll('.card')].map((own) => Number(own.dataset.gain))"
    by_gain = browser.run(gains)
    assert by_gain == sorted(by_gain, reverse=True)
    assert (browser.run(IDS)[0], browser.run(IDS)[-1]) == ("gains", "loses")
    browser.run(CHOOSE, "order", "loss")
    assert browser.run(gains) == by_gain[::-1]
    assert browser.run(IDS)[0] == "loses"
    browser.run(CHOOSE, "order", "gain")
    assert browser.run(gains) == by_gain
    assert browser.console() == []


def test_changed_words_are_marked(browser: Browser) -> None:
    marks = "return [...document.querySelectorAll('.card')][0].querySelectorAll(arguments[0])"
    words = "return [...document.querySelector('.card').querySelectorAll(arguments[0])].map((own) => own.textContent)"
    assert browser.run(f"{marks}.length", "ins") == 2
    assert browser.run(words, "del") == ["a"]  # "a a square" -> "a red square above a blue circle"
    assert browser.run(words, "ins") == ["red", "above a blue circle"]


def test_any_two_evaluations_can_be_compared(browser: Browser) -> None:
    options = browser.run("return [...document.querySelector('.tools select').options].map((own) => own.textContent)")
    wanted = ["xe, step 10 (first, best, last)", "scst, step 0 (first)", "scst, step 5"]
    assert options[:3] == wanted
    browser.run(CHOOSE, "after", "1")
    assert browser.run("return document.querySelectorAll('.card del, .card ins').length") == 0
    browser.run(CHOOSE, "after", "2")
    title = browser.run("return document.title")
    assert f"a {SCRIPT} diamond" in browser.run("return document.getElementById('captions').textContent")
    assert title == "xe · scst · rlcap report"
    browser.run(CHOOSE, "after", "3")
    assert browser.console() == []


def test_captions_can_be_searched(browser: Browser) -> None:
    browser.run(PUT, "[name=search]", "Yellow Cross")  # in a reference of "stays"
    assert browser.run(IDS) == ["stays"]
    browser.run(PUT, "[name=search]", "")
    assert len(browser.run(IDS)) == 4


def test_curves_of_both_runs_are_drawn_and_can_be_hidden(browser: Browser) -> None:
    curves = "return [...document.querySelectorAll('.chart')].find((own) => own.textContent.startsWith('reward'))"
    count = f"{curves}.querySelectorAll('path.curve').length"
    assert browser.run(count) == 2
    path = browser.run(f"{curves}.querySelector('path.curve').getAttribute('d')")
    assert path.count("L") == 9
    assert "NaN" not in browser.run("return document.getElementById('curves').outerHTML")
    browser.run("document.querySelector('.chip').click()")
    assert browser.run(count) == 1
    browser.run("document.querySelector('.chip').click()")
    assert browser.run(f"{curves}.querySelector('svg').getAttribute('aria-label')") == (
        "reward: xe 1 at step 10, scst 1 at step 10"
    )
    browser.run(PUT, "[name=smoothing]", 0.9)
    assert browser.run(f"{curves}.querySelectorAll('path.raw').length") == 2
    assert browser.console() == []


def test_the_pointer_reads_values(browser: Browser) -> None:
    read = """
        const chart = [...document.querySelectorAll('.chart')].find((own) => own.textContent.startsWith('entropy'));
        const box = chart.querySelector('svg').getBoundingClientRect();
        const event = new PointerEvent('pointermove', {clientX: box.left + arguments[0] * box.width});
        chart.querySelector('svg').dispatchEvent(event);
        return chart.querySelector('.readout').textContent;
    """
    assert browser.run(read, 0.05).split() == ["step", "1", "1.9", "1.9"]


def test_settings_that_differ_are_shown_first(browser: Browser) -> None:
    table = "return [...document.querySelector('#settings table').rows].map((own) => own.textContent)"
    assert browser.run(table) == ["where they differ xe scst", "learning_rate0.001–"]


def test_it_can_be_read_on_a_phone(browser: Browser, report: Path) -> None:
    widths = "return Math.min(...[...document.querySelectorAll('.caption')].map((own) => own.clientWidth))"
    sizes = """
        const texts = [...document.querySelectorAll('.card p:not(.identity)')];
        return Math.min(...texts.map((own) => parseFloat(getComputedStyle(own).fontSize)));
    """
    backgrounds = set()
    browser.resize(390, 844)
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.devtools("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.open(report)
        assert browser.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        assert browser.run(widths) >= 200
        assert browser.run(sizes) >= 13
        assert browser.console() == []
        backgrounds.add(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2
