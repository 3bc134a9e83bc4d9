"""Dask clusters for tests: a scheduler and workers as processes of their own, which can be killed."""

import contextlib
import json
import os
import subprocess
import sys

SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


class Processes:
    """A scheduler and its workers on the loopback, none of which outlives its test."""

    def __init__(self, folder, wait_until, protocol="tcp"):
        self.folder, self._wait_until, self._protocol = folder, wait_until, protocol
        self.file = folder / "scheduler.json"
        self.workers, self._all = [], []
        self.start()

    @property
    def where(self):
        return f"file:{self.file}"

    def start(self):
        """A scheduler, the first or one after another."""
        self.file.unlink(missing_ok=True)
        self.scheduler = self._begin(
            SCHEDULER, "--port", "0", "--scheduler-file", str(self.file), "--protocol", self._protocol
        )
        self._wait_until(self._is_there, self.scheduler)

    def _is_there(self):
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.file.read_text())["address"]
        return ""

    def add(self, before="", threads=1):
        """One more worker, in which something is done first."""
        number = len(self._all)
        options = ["--no-nanny", "--nthreads", str(threads), "--local-directory", str(self.folder / f"worker{number}")]
        self.workers.append(self._begin(before + "\n" + WORKER, "--scheduler-file", str(self.file), *options))
        return self.workers[-1]

    def _begin(self, program, *options):
        command = [sys.executable, "-c", program, "--host", "127.0.0.1", "--no-dashboard", *options]
        log = (self.folder / f"{len(self._all)}.log").open("wb")
        with log:
            self._all.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PYTHONWARNINGS": ""}))
        return self._all[-1]

    def logs(self):
        """What all of them have said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def end(self):
        for process in self._all:
            process.kill()
            process.wait()
