"""Autobahn's WebSocket cases, put to a server and to the same server behind the proxy.

    python run.py BINARY

A proxy that passes bytes shows the server's own verdict in every case, the server's faults included. A case that comes
out otherwise is put to both again, a few times: some verdicts hang on how the bytes fall into pieces, and such a case
passes if the server shows that verdict alone too. Of compression (12.*, 13.*) the first case of each group is run, a
thousand messages each; left out are the others, which differ in size alone, and 9.* (time and size, which say more of
this machine than of the proxy). The last line is the counts.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from kosoku import FailureError, run_fuzzingclient
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

CASES = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)]
CASES += [f"12.{group}.1" for group in range(1, 6)] + [f"13.{group}.1" for group in range(1, 8)]
# Another number would mean that the cases were not there.
COUNT = 259
AGAIN = 5
PATIENCE = 20.0

CONFIG = """
listen: [{{ name: app, address: "127.0.0.1:{proxy}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
access_log: {{ format: off }}
upstreams:
  echo: {{ url: "http://127.0.0.1:{echo}", breaker: {{ enabled: false }} }}
routes:
  - {{ name: all, match: {{ path: "/{{*rest}}" }}, upstream: echo }}
"""


Verdict = tuple[str, str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Echo(asyncio.Protocol):
    """Sends each message back before it looks at what came after it: bytes that arrive joined, as they may behind a
    proxy on a busy machine, get the answers that they get one by one."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.websocket = WSConnection(ConnectionType.SERVER)
        self.parts: list[str | bytes] = []

    def data_received(self, data: bytes) -> None:
        try:
            self.websocket.receive_data(data)
            for event in self.websocket.events():
                self.on(event)
        except (LocalProtocolError, RemoteProtocolError):
            self.transport.close()

    def on(self, event) -> None:
        match event:
            case Request():
                self.send(AcceptConnection(extensions=[PerMessageDeflate()]))
            case Message(data=data, message_finished=finished):
                self.parts.append(data)
                if finished:
                    whole = type(data)().join(self.parts)
                    self.parts.clear()
                    self.send(Message(data=whole))
            case Ping():
                self.send(event.response())
            case CloseConnection():
                self.send(event.response())
                self.transport.close()

    def send(self, event) -> None:
        self.transport.write(self.websocket.send(event))


async def verdicts(port: int, cases: list[str]) -> dict[str, Verdict]:
    """What each case says of the server at this port."""
    try:
        results = await run_fuzzingclient(f"ws://127.0.0.1:{port}", cases)
    except FailureError as failed:
        results = failed.results
    return {one.case_id: (one.behavior.value, one.behavior_close.value) for one in results}


async def reachable(port: int, process) -> None:
    for _ in range(int(PATIENCE / 0.1)):
        if process.returncode is not None:
            sys.exit(f"the proxy ended with {process.returncode}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)
    sys.exit("the proxy does not listen")


def fits(behind: set[Verdict], alone: set[Verdict]) -> bool:
    """Whether the proxy showed the server's own verdicts. NON-STRICT is a correct end before all that was owed had
    been sent, so that the better of the two may be seen where the bytes come in other pieces; never the worse."""
    better = {("OK", close) for behavior, close in alone if behavior == "NON-STRICT"}
    return behind <= alone | better


async def compare(direct_port: int, proxied_port: int) -> tuple[int, int]:
    direct = await verdicts(direct_port, CASES)
    proxied = await verdicts(proxied_port, CASES)
    if len(direct) != COUNT or direct.keys() != proxied.keys():
        sys.exit(f"{len(direct)} cases ran directly and {len(proxied)} through the proxy")
    if all(verdict[0] != "OK" for verdict in direct.values()):
        sys.exit("no case is OK even without the proxy")
    seen = {case: ({direct[case]}, {proxied[case]}) for case in direct}
    for _ in range(AGAIN):
        open_cases = [case for case, (alone, behind) in seen.items() if not fits(behind, alone)]
        if not open_cases:
            break
        print("again, both ways:", " ".join(open_cases))
        for case, verdict in (await verdicts(direct_port, open_cases)).items():
            seen[case][0].add(verdict)
        for case, verdict in (await verdicts(proxied_port, open_cases)).items():
            seen[case][1].add(verdict)
    failed = [case for case, (alone, behind) in seen.items() if not fits(behind, alone)]
    for case in failed:
        alone, behind = seen[case]
        print(f"FAILED {case}: {sorted(behind)} through the proxy, {sorted(alone)} without it")
    counts: dict[str, int] = {}
    for behavior, _ in proxied.values():
        counts[behavior] = counts.get(behavior, 0) + 1
    print("through the proxy:", ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    return len(seen) - len(failed), len(failed)


async def main(binary: str) -> int:
    ports = {"echo": free_port(), "proxy": free_port(), "admin": free_port()}
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "proxy.yaml"
        config.write_text(CONFIG.format(**ports))
        async with await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", ports["echo"]):
            process = await asyncio.create_subprocess_exec(binary, "--config", str(config))
            try:
                await reachable(ports["proxy"], process)
                passed, failed = await compare(ports["echo"], ports["proxy"])
            finally:
                if process.returncode is None:
                    os.kill(process.pid, signal.SIGTERM)
                await asyncio.wait_for(process.wait(), PATIENCE)
    if process.returncode != 0:
        sys.exit(f"the proxy ended with {process.returncode}")
    print(f"autobahn result: {passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
