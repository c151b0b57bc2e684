"""A headless Chromium, driven by its DevTools protocol: real keys, real widths, real colours."""

import base64
import json
import os
import select
import shutil
import subprocess

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
_PATIENCE = 30  # seconds
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def path():
    """Returns where it is, None if it isn't installed."""
    return next((found for found in map(shutil.which, _NAMES) if found), None)


class Page:
    """A page in a browser of its own; a context manager."""

    def __init__(self, address, folder):
        self.errors, self._events = [], []
        self._address, self._folder, self._number = address, folder, 0

    def __enter__(self):
        # The browser reads commands from descriptor 3 and answers on 4, which bash can give it: of
        # plain shells some know no descriptors above 9.
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={self._folder}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{answers}', "bash", path(), *flags],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._buffer, self._session = b"", None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._to)
        os.close(self._from)
        self._process.kill()
        self._process.wait()

    def show(self, *, width=1280, height=900, dark=False):
        """Loads the page in a window of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._events = []
        self._call("Page.navigate", url=self._address)
        while "Page.loadEventFired" not in self._events:
            self._note(self._read())

    def scripts(self, allowed):
        """Says whether the page's own scripts run from its next loading on."""
        self._call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def run(self, code):
        """Returns the value of an expression of JavaScript."""
        answer = self._call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code):
        """Presses a key and lets it go."""
        text = {"text": "\r"} if key == "Enter" else {}
        what = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", **what, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **what)

    def point_at(self, x, y):
        """Moves the mouse there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, *, whole=False):
        """Returns a PNG of what is seen, or of the whole page."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def _call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event):
        self._events.append(event.get("method"))
        if event.get("method") in _ERRORS:
            self.errors.append(event["params"])

    def _read(self):
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], _PATIENCE)[0], "the browser says nothing"
            part = os.read(self._from, 1 << 16)
            assert part, "the browser is gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
