"""Pages in a real browser: nothing fails, nothing is fetched, all is drawn, and nothing sticks out."""

import pytest

from onnxprune.errors import ModelError
from onnxprune.latency import Plan
from onnxprune.latency.sweep import Part
from onnxprune.report import choose, render, sheet
from onnxprune.report.cells import Lines
from onnxprune.report.facts import FACTS
from onnxprune.report.sweep import Swept
from tests import browser
from tests.report.samples import NASTY, bench, timed
from tests.report.test_formats import REPORT

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here (Debian: apt-get install chromium)")

LONG = "/a/very/long/path/without/any/blank/at/which/a/line/could/be/broken/" + "x" * 120 + ".onnx"
REPORTS = {
    "bench": lambda: bench(),
    "bench of odd names": lambda: bench(("dense.onnx", NASTY, LONG)),
    "compare": lambda: choose([timed(0.004, 0.002, 0.003)], {"m0.onnx": 0.9, "m1.onnx": 0.85, "m2.onnx": 0.8}),
    "compare many, without accuracies": lambda: choose([timed(*(0.001 * k for k in range(1, 15)))]),
    "sweep": lambda: swept(),
    "prune": lambda: REPORT,
}


def swept():
    """Two parts, one of them without a result."""
    parts = Part(Plan(), 1, bench().timing), Part(Plan(runtime="cuda"), 8, error=ModelError("out of memory", "less"))
    return Swept(parts, {parts[0].name: bench()})


PHONE, DESKTOP = 360, 1280
DRAWINGS = """[...document.querySelectorAll('svg, img')]
  .map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"""
OUTSIDE = """[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') && !e.closest('details:not([open])'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
LETTERS = """[...document.querySelectorAll('svg.plot text')]
  .map(t => [t.getBoundingClientRect(), t.closest('svg').getBoundingClientRect(), t.textContent])
  .filter(([t, s]) => t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 1 || t.bottom > s.bottom + 1)
  .map(row => row[2])"""
CONTRAST = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"


@pytest.fixture(scope="module")
def tab():
    """The browser; one for all tests, as it takes a second to start."""
    assert PROGRAM
    with browser.browsing(PROGRAM) as found:
        yield found


@pytest.fixture(params=REPORTS, scope="module")
def report(request):
    return REPORTS[request.param]()


@pytest.fixture
def file(report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(report, path))
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_page(tab, file, width, dark):
    tab.open(file, width, dark=dark)
    assert tab.told("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = [each["request"]["url"] for each in tab.told("Network.requestWillBeSent")]
    assert asked == [file.resolve().as_uri()], "the page itself, and nothing else"
    assert tab.value("document.documentElement.scrollWidth") <= width and tab.value(OUTSIDE) == []
    assert tab.value("document.querySelectorAll('script, img, link, iframe, object').length") == 0
    tab.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    sizes = tab.value(DRAWINGS)
    assert sizes and all(w > 20 and h > 5 for w, h in sizes)
    assert tab.value(LETTERS) == [], "words that a drawing cuts off"
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_all_words_are_on_the_page(tab, file, report):
    tab.open(file, DESKTOP)
    tab.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    text = " ".join(tab.value("document.body.innerText").split())
    said = [sheet(report).title, sheet(report).verdict]
    for table in sheet(report).tables:
        cells = [cell for row in table.rows for cell in row]
        said += [table.title, *(cell for cell in cells if isinstance(cell, str))]
        said += [line for cell in cells if isinstance(cell, Lines) for line in cell.texts]
    assert [words for words in said if " ".join(words.split()) not in text.replace("\ufffd", "")] == []
    assert all(fact.name in text for fact in FACTS)


def test_light_and_dark_differ(tab, file):
    tab.open(file, DESKTOP)
    light = tab.value(CONTRAST)
    tab.open(file, DESKTOP, dark=True)
    dark = tab.value(CONTRAST)
    brightness = [[sum(map(int, c[4:-1].split(","))) for c in pair] for pair in (light, dark)]
    assert brightness[0][0] - brightness[0][1] > 400 and brightness[1][1] - brightness[1][0] > 400


def test_a_picture_of_the_page_is_not_empty(tab, file, tmp_path):
    from PIL import Image

    tab.open(file, DESKTOP)
    tab.picture(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.width == DESKTOP and picture.height > 900
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None and len(colours) > 20


def test_the_checks_can_fail(tab, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body><div style='width:3000px'>wide</div><img src='missing.png'>"
        "<svg class=plot width=50 height=20><text x=40 y=15>cut off here</text></svg><script>nothing()</script>"
    )
    tab.open(bad, PHONE)
    assert tab.told("Runtime.exceptionThrown") and len(tab.told("Network.requestWillBeSent")) > 1
    assert tab.value(OUTSIDE) and tab.value(LETTERS) == ["cut off here"]
    assert tab.value("document.documentElement.scrollWidth") > PHONE
