"""The image that the Dockerfile makes: small, without a shell, never root, in production unless told otherwise; and it
answers, is healthy, and stops when it is asked to, on a root that nobody can write to."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import requests
from rig.ports import free_address
from rig.program import Program
from rig.until import until

IMAGE = os.environ.get("TRUNKLINE_IMAGE", "localhost/trunkline:test")
BINARY = "/usr/local/bin/trunkline"
LARGEST = 25 * 1000 * 1000


def buildah(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(["buildah", *words], capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.fixture(scope="module")
def config():
    inspected = buildah("inspect", "--type", "image", IMAGE)
    assert inspected.returncode == 0, inspected.stderr
    return json.loads(inspected.stdout)["Docker"]["config"]


@pytest.fixture(scope="module")
def container():
    made = buildah("from", "--pull-never", IMAGE)
    assert made.returncode == 0, made.stderr
    name = made.stdout.strip()
    yield name
    buildah("rm", name)


def run(container: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    return buildah("run", "--isolation", "chroot", *env, container, "--", BINARY, *words)


def test_it_says_what_it_is_and_who_runs_it(config):
    assert config["User"] == "65532:65532"
    assert (config["Entrypoint"], config["Cmd"]) == ([BINARY], ["run"])
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9464/tcp"}
    assert {"ENVIRONMENT=production", "INTEGRATIONS_STUB_MODE=false"} <= set(config["Env"])
    assert config["Healthcheck"]["Test"] == ["CMD", BINARY, "healthcheck"]
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert labels >= {"title", "description", "licenses", "version", "revision"}


def test_it_is_small_unpacked_too(container):
    root = Path(buildah("mount", container).stdout.strip())
    size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    assert size <= LARGEST, size
    buildah("umount", container)


def test_it_holds_one_program_and_no_shell(container):
    root = Path(buildah("mount", container).stdout.strip())
    programs = [path for path in root.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert [str(path.relative_to(root)) for path in programs] == [BINARY.lstrip("/")]
    owner = (root / "var/lib/trunkline").stat()
    assert (owner.st_uid, owner.st_gid) == (65532, 65532)
    buildah("umount", container)


def test_production_is_the_default_and_stubs_have_to_be_asked_for(container):
    checked = run(container, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    stubs = run(container, "check", INTEGRATIONS_STUB_MODE="true")
    assert stubs.returncode == 2 and "production" in stubs.stdout + stubs.stderr


def processes(listen: str) -> list[Path]:
    """The directories in /proc of the program that serves there."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
            variables = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [BINARY.encode(), b"run"] and f"TRUNKLINE_LISTEN={listen}".encode() in variables:
            found.append(directory)
    return found


def is_ready(program: Program, admin: str) -> bool:
    program.alive()
    try:
        return requests.get(f"http://{admin}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_it_needs_no_root_that_can_be_written_to(container, config, tmp_path, running):
    listen, admin = free_address(), free_address()
    root, place = buildah("mount", container).stdout.strip(), tmp_path / "root"
    place.mkdir()
    # In a name space of its own, so that nobody else sees the mount and it ends with the process.
    script = """
        mount --make-rprivate / && mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 90
        ! touch "$2/var/lib/trunkline/x" 2>/dev/null || exit 91
        exec chroot --userspec=65532:65532 --groups= "$2" "$3" run
    """
    words = ["unshare", "--mount", "sh", "-c", script, "sh", root, str(place), BINARY]
    variables = dict(pair.split("=", 1) for pair in config["Env"])
    variables |= {"TRUNKLINE_LISTEN": listen, "TRUNKLINE_ADMIN": admin, "PATH": os.environ["PATH"]}
    program = Program("readonly", words, tmp_path, variables)
    running.append(program)
    until(lambda: is_ready(program, admin), within=60, what="a ready process on a read-only root")
    answer = requests.get(f"http://{listen}/api/v1/integrations/calendar/google/calendars", timeout=10)
    assert answer.status_code == 403
    program.signal(signal.SIGTERM)
    assert program.exit_code() == 0, program.stderr
    buildah("umount", container)


def test_it_answers_as_nobody_is_healthy_and_stops(container, tmp_path, running):
    listen, admin = free_address(), free_address()
    variables = {"TRUNKLINE_LISTEN": listen, "TRUNKLINE_ADMIN": admin, "RUST_LOG": "info"}
    env = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    words = ["buildah", "run", "--isolation", "chroot", *env, container, "--", BINARY, "run"]
    program = Program("container", words, tmp_path, os.environ | {"BUILDAH_ISOLATION": "chroot"})
    running.append(program)
    until(lambda: is_ready(program, admin), within=60, what="a ready container")
    (served,) = processes(listen)
    status = dict(line.split(":\t", 1) for line in (served / "status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
    assert int(status["CapEff"], 16) == 0
    # Stubs are off in production, and no vendor is asked.
    answer = requests.get(f"http://{listen}/api/v1/integrations/calendar/google/calendars", timeout=10)
    assert answer.status_code == 403 and "x-correlation-id" in answer.headers
    assert run(container, "healthcheck", **variables).returncode == 0
    os.kill(int(served.name), signal.SIGTERM)
    until(lambda: not processes(listen), within=30, what="the end of the container")
    assert run(container, "healthcheck", **variables).returncode == 1
