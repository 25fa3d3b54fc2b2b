"""Real servers and a real browser. Screenshots are left in build/screenshots."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import pytest
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # root, in a container
    "--disable-gpu",
    "--disable-background-networking",
]
SECONDS_TO_START = 90
LONGEST_RUN = 180_000
"""Milliseconds for a lesson or a training run with its pictures, on a busy machine."""


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory):
    """A copy of the notebooks, which a learner may change."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    return shutil.copytree(
        ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".*", "live_training*")
    )


@pytest.fixture(scope="session")
def jupyterlab(notebooks, tmp_path_factory):
    """The address of a JupyterLab that serves the notebooks."""
    settings = tmp_path_factory.mktemp("settings")
    # Otherwise cells out of sight are not in the page.
    write_setting(settings, "notebook-extension/tracker", '{"windowingMode": "none"}')
    write_setting(settings, "apputils-extension/notification", '{"fetchNews": "false"}')
    port = free_port()
    command = [
        "jupyter-lab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={notebooks}"]
    with serving(command, port, JUPYTERLAB_SETTINGS_DIR=str(settings)) as address:
        yield f"{address}/lab/tree"


@pytest.fixture(scope="session")
def voila(notebooks):
    """The address of the playground as a page of its own, with the token that voila.json wants."""
    port = free_port()
    command = ["voila", f"--port={port}", "--theme=light", "--Voila.token=of-the-test"]
    command.append(f"--Voila.config_file_paths={ROOT}")
    with serving([*command, str(notebooks / "playground.ipynb")], port) as address:
        yield f"{address}/?token=of-the-test"


def write_setting(folder, name, text):
    path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True)
    path.write_text(text)


@contextlib.contextmanager
def serving(command, port, **environment):
    """Run a Jupyter program until the block ends; it has answered when the block begins."""
    address = f"http://localhost:{port}"
    log = SCREENSHOTS / f"{command[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    program = [str(pathlib.Path(sys.executable).with_name(command[0])), *command[1:]]
    with log.open("w") as output:
        server = subprocess.Popen(
            program, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(program)} does not answer:\n{log.read_text()}")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def answers(port):
    # Only whether something listens: the page of Voilà runs the notebook for every request.
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
