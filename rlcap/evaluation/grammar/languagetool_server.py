"""Where the LanguageTool server is: one that runs, or one that is started here from a copy on disk.

Nothing is downloaded. language-tool-python would, at first use, and would go on to start a server on each of 900 ports
where the first does not come up in 15 seconds; so its copy is found by its own code, and started by ours.
"""

import atexit
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rlcap.evaluation.java import find_java

SETTING = "RLCAP_LANGUAGETOOL"  # environment variable: the address of a running server, or LOCAL
LOCAL = "local"
DOWNLOAD = "python -c \"import language_tool_python as l; l.LanguageTool('en-US').close()\""
START_SECONDS = 120  # for the server to answer


def running_server(setting: str | None) -> str:
    """The address of a server: that of the setting, or, where it is None or LOCAL, of one started for this process.

    Raises ValueError where there is none to be started, or it does not come up.
    """
    if setting and setting != LOCAL:
        return setting.rstrip("/").removesuffix("/v2") + "/"
    java = find_java()
    if java is None:
        raise ValueError(f"LanguageTool needs Java 17 or later, or {SETTING} set to the address of a running server")
    port = _free_port()
    return _started([str(java), "-cp", str(_jar()), "org.languagetool.server.HTTPServer", "-p", str(port)], port)


def _jar() -> Path:
    from language_tool_python.download_lt import LocalLanguageTool

    installed = LocalLanguageTool.get_latest_installed_version()
    if installed is None:
        raise ValueError(
            f"there is no LanguageTool: set {SETTING} to the address of a running server, or download one: {DOWNLOAD}"
        )
    try:
        return installed.get_jar_path()
    except FileNotFoundError as error:
        raise ValueError(f"the copy of LanguageTool is not whole ({error}): {DOWNLOAD}") from error


def _started(command: Sequence[str], port: int) -> str:
    """Starts the server, which ends with this process, and waits until it answers."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads fills up and blocks the server
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
    atexit.register(process.kill)
    address, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}v2/healthcheck", timeout=5):
                return address
        except OSError:
            if (code := process.poll()) is not None:
                raise ValueError(f"LanguageTool ({command[0]}) ended with code {code}: {_last(errors)}") from None
            time.sleep(0.2)
    process.kill()
    process.wait()
    raise ValueError(f"LanguageTool ({command[0]}) did not answer within {START_SECONDS} s: {_last(errors)}")


def _last(errors: IO[bytes]) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - 500))
    return errors.read().decode(errors="replace").strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
