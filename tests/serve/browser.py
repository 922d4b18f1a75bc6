"""Chromium without a window, driven through ChromeDriver's HTTP interface (W3C WebDriver)."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time

import requests

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
#: As a test needs it: no window, no requests of its own.
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One session of a browser."""

    def __init__(self, address, capabilities):
        self._address = address + "/session"
        self._address += "/" + self._ask("POST", "", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def _ask(self, method, path, content=None):
        answer = requests.request(method, self._address + path, json=content, timeout=60).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["message"])
        return answer

    def open(self, address):
        """Load a page."""
        self._ask("POST", "/url", {"url": address})

    def run(self, script, *arguments):
        """What a script `return`s."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, seconds=20):
        """What a script returns as soon as that is true."""
        end = time.monotonic() + seconds
        while True:
            found = self.run(script)
            if found or time.monotonic() > end:
                assert found, f"{script}: {self.run('return document.body.innerText')}"
                return found
            time.sleep(0.1)

    def type(self, selector, text):
        """Type into an element; into a file input: choose this file."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[ELEMENT]}/value", {"text": text})

    def press(self, key):
        """Press a key, by its code point of WebDriver."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def look(self, width, height=900, scheme="light"):
        """Show the page at this size, in this colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self):
        """The whole page as the bytes of a PNG."""
        found = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def console(self):
        """Messages of the console since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def requested(self):
        """Addresses that the page asked for since the last call."""
        entries = [
            json.loads(entry["message"])["message"] for entry in self._ask("POST", "/se/log", {"type": "performance"})
        ]
        return [each["params"]["request"]["url"] for each in entries if each["method"] == "Network.requestWillBeSent"]

    def close(self):
        """End the browser."""
        self._ask("DELETE", "")


@contextlib.contextmanager
def chromium(profile, *arguments):
    """A browser with an empty profile in the folder `profile`."""
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            port = None
            while port is None:
                line = driver.stdout.readline()
                assert line, "chromedriver did not start"
                found = re.search(r"started successfully on port (\d+)", line)
                port = found and found[1]
            capabilities = {
                "browserName": "chrome",
                "goog:chromeOptions": {
                    "binary": CHROMIUM,
                    "args": [*ARGUMENTS, f"--user-data-dir={profile}", *arguments],
                },
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            browser = Browser(f"http://127.0.0.1:{port}", capabilities)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
