"""The vendors' Node SDKs, driven over one long-lived child process: `node/sdk.mjs` says what it can do."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from rig.sdks import Raised

SDK = Path(__file__).resolve().parents[1]
NODE = SDK.parent / ".work/node"
"""Where the packages are installed; Node finds them from the scripts' own place, so these are copied there."""


class Node:
    """The process; `call` asks it for one thing and waits."""

    def __init__(self, **environment: str) -> None:
        shutil.copy(SDK / "node/sdk.mjs", NODE / "sdk.mjs")
        shutil.copytree(SDK / "snippets", NODE / "snippets", dirs_exist_ok=True)
        self._child = subprocess.Popen(
            ["node", str(NODE / "sdk.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
            text=True,
            bufsize=1,
        )

    def call(self, sidecar: str, call: str, args: list, options: dict) -> object:
        """The value that the SDK returned; its own error class is raised as `Raised`."""
        request = {"sidecar": sidecar, "call": call, "args": args, "options": options}
        self._child.stdin.write(json.dumps(request) + "\n")
        answer = json.loads(self._child.stdout.readline())
        if error := answer.get("error"):
            raise Raised(
                error["class"], error.get("status"), error.get("text"), error.get("details"), error.get("code")
            )
        return answer.get("value")

    def stop(self) -> None:
        self._child.stdin.close()
        self._child.wait(timeout=30)


class NodeClient:
    """A vendor's client in Node: every method is one of `sdk.mjs`'s calls for that vendor."""

    def __init__(self, node: Node, vendor: str, error: str, sidecar: str, **options: object):
        self.error = error
        self._node, self._vendor, self._sidecar, self._options = node, vendor, sidecar, options

    def __getattr__(self, name: str):
        return lambda *args: self._node.call(self._sidecar, f"{self._vendor}.{name}", list(args), self._options)
