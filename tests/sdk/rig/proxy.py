"""The program under test: started on a file with an environment, asked over HTTP, ended with its own signals."""

import json
import os
import re
import subprocess
from pathlib import Path

import requests

from rig.ports import free_address
from rig.program import Program
from rig.until import until

PROJECT = Path(__file__).resolve().parents[3]
SHIPPED = PROJECT / "proxy.yaml"
TARGET = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target")
BINARY = os.environ.get("TRUNKLINE_BIN", str(TARGET / "release/trunkline"))

# What the shipped file reads; a test's result must not depend on the shell that runs it.
_OURS = re.compile(r"TRUNKLINE_|CIRCUIT_BREAKER_|INTEGRATIONS_|RATE_LIMIT_|VAPI_|TWILIO_|GOOGLE_|GMAIL_|GRAPH_|MICROSOFT_|ENVIRONMENT$|OTEL_")

# No test but those about limits shall meet one.
UNLIMITED = "1000000"


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without the product's variables, and with those `settings` that are not none."""
    inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return inherited | {name: str(value) for name, value in settings.items() if value is not None}


def trunkline(*words: str, config: Path = SHIPPED, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs one verb to its end."""
    return subprocess.run(
        [BINARY, *words, "--config", str(config)],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Proxy:
    """A running proxy."""

    def __init__(self, directory: Path, config: Path = SHIPPED, name: str = "proxy", **settings: object):
        listen, admin = free_address(), free_address()
        self.url = f"http://{listen}"
        self.admin = f"http://{admin}"
        chosen = {
            "TRUNKLINE_LISTEN": listen,
            "TRUNKLINE_ADMIN": admin,
            "RATE_LIMIT_PER_MINUTE": UNLIMITED,
            **settings,
        }
        self.program = Program(name, [BINARY, "run", "--config", str(config)], directory, environment(**chosen))
        until(self._ready, within=30, what="a ready proxy")

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    @property
    def pid(self) -> int:
        return self.program.pid

    def _ready(self) -> bool:
        self.program.alive()
        return self.readiness() == 200

    def readiness(self) -> int | None:
        """The status of `/readyz`; none where nobody listens."""
        try:
            return requests.get(f"{self.admin}/readyz", timeout=5).status_code
        except requests.ConnectionError:
            return None

    def metrics(self) -> dict[str, float]:
        """Every series by its text, labels included."""
        page = requests.get(f"{self.admin}/metrics", timeout=30)
        page.raise_for_status()
        lines = (line for line in page.text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of `name` that carry `labels`; they must exist."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [
            value
            for series, value in self.metrics().items()
            if series.partition("{")[0] == name and all(pair in series for pair in wanted)
        ]
        assert found, f"no series {name} with {labels}"
        return sum(found)

    def access_log(self) -> list[dict]:
        """The records of finished exchanges, oldest first."""
        lines = (line for line in self.program.stdout.splitlines() if line.startswith("{"))
        records = (json.loads(line) for line in lines)
        return [record for record in records if "duration_ms" in record]

    def stop(self) -> None:
        self.program.kill()
