"""A real registry on loopback, without TLS."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def serve(top: Path) -> Iterator[tuple[str, Path]]:
    """HOST:PORT, and the HOME with which skopeo talks to it. Skips where none is installed."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("docker-registry is not installed (make test does it)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    where = f"127.0.0.1:{port}"
    settings = top / "home/.config/containers/registries.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[[registry]]\nlocation = "{where}"\ninsecure = true\n')
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": f"{top}/registry"}},
        "http": {"addr": where},
    }
    (top / "registry.json").write_text(json.dumps(config))
    with subprocess.Popen([program, "serve", f"{top}/registry.json"], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield where, top / "home"
        finally:
            process.terminate()
