"""The page in a real browser."""

import re
import subprocess
from html import escape

import pytest

from tests.report import chromium, records
from tfprune.report import html

# Says in the title of the window around it how wide the page is, which pictures have collapsed
# and whether a script of the record ran.
PROBE = (
    "<script>addEventListener('load', () => {"
    "const e = document.documentElement;"
    "parent.document.title = `${document.title}|${e.scrollWidth}|${e.clientWidth}|"
    "${[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width < 50)"
    ".length}`})</script></body>"
)


@pytest.fixture(scope="module")
def browser():
    found = chromium.path()
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return found


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["resnet110", "failures", "hostile"])
def test_it_fits_the_window(browser, name, width, tmp_path):
    text = html.render(records.ALL[name]()).replace("</body>", PROBE)
    assert PROBE in text
    # Without its own policy, which lets no script run, what is hostile would have its way.
    text, forbidden = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert forbidden == 1
    # A window is at least 500 wide, a frame as narrow as a phone.
    frame = f'<iframe width="{width}" height="900" srcdoc="{escape(text)}"></iframe>'
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><title></title>{frame}")
    command = [
        browser,
        *chromium.FLAGS,
        f"--user-data-dir={tmp_path}/user",
        "--window-size=1400,1000",
    ]
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", (tmp_path / "page.html").as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    told, wide, window, collapsed = title.rsplit("|", 3)
    assert int(window) in range(width - 20, width + 1)  # less a scroll bar
    assert int(wide) <= int(window)
    assert int(collapsed) == 0
    assert "owned" not in told.replace("&lt;script&gt;document.title='owned'&lt;/script&gt;", "")
    assert "CONSOLE" not in done.stderr
