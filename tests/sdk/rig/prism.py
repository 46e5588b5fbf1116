"""Upstreams that answer as a vendor's description says: one mock server for each OpenAPI file."""

from dataclasses import dataclass
from pathlib import Path

import requests

from rig.node import NODE
from rig.ports import free_port
from rig.program import Program
from rig.proxy import PROJECT
from rig.until import until

OWN = PROJECT / "tests/sdk/openapi"
VENDORS = PROJECT.parent / "shared/vendors"


@dataclass(frozen=True)
class Descriptions:
    """Where the three descriptions are, and how many services a request for three finds in the examples."""

    name: str
    api: Path
    messaging: Path
    vapi: Path
    services: int


OURS = Descriptions("ours", OWN / "twilio_api.yaml", OWN / "twilio_messaging.yaml", OWN / "vapi.yaml", 3)
THEIRS = Descriptions(
    "theirs",
    VENDORS / "twilio_api_v2010.json",
    VENDORS / "twilio_messaging_v1.json",
    VENDORS / "vapi_slim_d1.json",
    1,
)


class Prism:
    """One mock server; it comes up in the background until `wait` is called."""

    def __init__(self, description: Path, directory: Path):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        prism = NODE / "node_modules/@stoplight/prism-cli/dist/index.js"
        command = ["node", str(prism), "mock", "-v", "warn", "-h", "127.0.0.1", "-p", str(port), str(description)]
        self.program = Program(f"prism-{port}", command, directory)

    def wait(self) -> "Prism":
        until(self._answers, within=180, what=f"{self.program.name}")
        return self

    def _answers(self) -> bool:
        self.program.alive()
        try:
            requests.get(self.url, timeout=30)
        except requests.ConnectionError:
            return False
        return True

    def stop(self) -> None:
        self.program.kill()


class Upstreams:
    """The three mock servers of one set of descriptions."""

    def __init__(self, descriptions: Descriptions, directory: Path):
        self.services = descriptions.services
        files = [descriptions.api, descriptions.messaging, descriptions.vapi]
        self._all = [Prism(file, directory) for file in files]
        self.api, self.messaging, self.vapi = self._all

    def wait(self) -> "Upstreams":
        for prism in self._all:
            prism.wait()
        return self

    def stop(self) -> None:
        for prism in self._all:
            prism.stop()
