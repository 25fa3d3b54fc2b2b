"""The playground served as a page: only to who has the token, and only on this machine."""

import http.client
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SECONDS_TO_START = 120


@pytest.fixture
def voila(tmp_path):
    """Port and token of a Voilà with the course's settings, which serves a small notebook."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print(6 * 7)")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "small.ipynb")
    shutil.copy(ROOT / "voila.json", tmp_path)  # Voilà reads the one where it is started
    log = tmp_path / "log"
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    program = str(pathlib.Path(sys.executable).with_name("voila"))
    command = [program, f"--port={port}", "small.ipynb"]
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not (address := re.search(rf"localhost:{port}/\?token=(\w+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield port, address[1]
    finally:
        server.terminate()
        server.wait()


def ask(port, path, host="localhost"):
    connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS_TO_START)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Location", ""), answer.read().decode()


def test_voila_wants_its_token_and_a_local_name(voila):
    port, token = voila
    status, location, _ = ask(port, "/")
    assert (status, location.split("?")[0]) == (302, "/login")
    assert ask(port, "/?token=guessed")[0] == 302
    assert ask(port, f"/?token={token}", host="example.org")[0] == 403
    status, _, page = ask(port, f"/?token={token}")
    assert status == 200
    assert "42" in page
