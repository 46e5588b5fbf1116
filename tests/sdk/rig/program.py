"""A program that a test starts, watches and always ends; what it says goes to files beside the test's others."""

import os
import signal
import subprocess
from pathlib import Path


class Program:
    """A child process in a group of its own, so that what it started ends with it."""

    def __init__(self, name: str, command: list[str], directory: Path, env: dict[str, str] | None = None):
        """`env` is the whole environment; without it the child inherits this one."""
        self.name = name
        self._out = directory / f"{name}.out"
        self._err = directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it still runs; a program that ended too early raises with its last words."""
        if self.child.poll() is None:
            return True
        raise RuntimeError(f"{self.name} ended with {self.child.returncode}:\n{self.stdout}\n{self.stderr}")

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def exit_code(self, within: float = 30.0) -> int:
        """Waits for the end that the test has asked for."""
        return self.child.wait(timeout=within)

    def kill(self) -> None:
        """Ends it and everything it started, if it still runs."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
