"""The page of a benchmark in a real browser: keys, pointer, a phone, the dark."""

import re

import pytest

from tests.report import chromium, trials
from tests.report.test_benchmark import loaded, rendered
from tfprune import literature

# The least contrast of any text with what is behind it, by the formula of WCAG 2.
CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    // On heat maps there are numbers on colours of their own.
    if (e.closest(".heat, [hidden], script, style") || ![...e.childNodes].some(
      (n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const ink = e.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, e.textContent.trim().slice(0, 40)];
  }
  return least;
})()"""
COLUMN = (
    "[...document.activeElement.closest('table').tBodies[0].rows].map(r => r.cells[2].innerText)"
)
LABEL = "document.activeElement.getAttribute('aria-label')"
TIP = "(tip => tip.hidden ? null : tip.textContent)(document.getElementById('tip'))"


@pytest.fixture
def page(tmp_path):
    if chromium.path() is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    records = trials.grid(pairs=(("cifar10", "resnet32"),)) + trials.hostile()
    file = tmp_path / "report.html"
    file.write_text(rendered(loaded(tmp_path, records), literature.load()))
    with chromium.Page(file.as_uri(), tmp_path / "user") as page:
        yield page


def accuracies(page):
    return [float(re.search(r"\d+\.\d", text)[0]) for text in page.run(COLUMN)]


def test_a_benchmark_in_a_browser(page):
    page.show()
    # Sorted by the keyboard, first by the highest.
    page.run(
        "document.querySelector('tr[data-method=tfmot] .accuracy').closest('table')"
        ".querySelectorAll('th button')[2].focus()"
    )
    before = accuracies(page)
    assert len(set(before)) == 5
    page.press("Enter", 13)
    assert accuracies(page) == sorted(before, reverse=True)
    assert page.run("document.activeElement.parentNode.getAttribute('aria-sort')") == "descending"
    page.press("Enter", 13)
    assert accuracies(page) == sorted(before)
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1

    # One point of a picture is reached by tabs, the others by arrows; each says what it is.
    svg = "document.querySelectorAll('svg:has(.point)')"
    assert page.run(f"[...{svg}].every(s => s.querySelectorAll('[tabindex=\"0\"]').length === 1)")
    page.run("document.querySelector('.point[data-method=\"snip/global\"]').focus()")
    for _ in range(3):
        page.press("ArrowRight", 39)
    assert page.run(LABEL).startswith("snip/global at 8 ×: top-1 ")
    assert re.search(r" % ± \d\.\d, 3 seeds; −", page.run(LABEL))
    assert page.run(TIP) == page.run(LABEL)
    assert (
        page.run(
            "[...new Set([...document.querySelectorAll('.chosen')]"
            ".map(e => e.dataset.method))].join()"
        )
        == "snip/global"
    )
    page.press("ArrowUp", 38)
    assert page.run(LABEL).startswith("magnitude/global at 8 ×")
    page.press("Escape", 27)
    assert page.run(TIP) is None

    # The pointer finds them too.
    where = page.run(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])(document"
        ".querySelectorAll('.point[data-method=tfmot]')[4].getBoundingClientRect())"
    )
    page.point_at(*where)
    assert page.run(TIP).startswith(("tfmot at 16 ×", "magnitude/uniform at 16 ×"))

    # A method is chosen in the legend.
    page.run("document.querySelector('.legend button').focus()")
    page.press("Enter", 13)
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"

    for dark in (False, True):
        page.show(width=390, height=800, dark=dark)
        assert page.run("document.documentElement.scrollWidth") <= 390
        ratio, text = page.run(CONTRAST)
        assert ratio >= 4.5, text
        assert page.run(
            "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 20)"
        )
    assert page.run("document.title") == "4 methods on 2 pairs: tfprune benchmark"
    assert not page.errors

    # Without its script it has all it has to say.
    page.scripts(False)
    page.show()
    assert page.run("document.querySelectorAll('th button').length") == 0
    assert "±" in page.run("document.querySelector('tr[data-method=tfmot] .accuracy').innerText")
