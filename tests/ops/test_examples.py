"""The files that operators copy: each is what the program that reads it wants."""

import os
import shutil
import subprocess

import yaml
from rig.proxy import BINARY, PROJECT, trunkline

EXAMPLES = PROJECT / "helm/examples"


def done(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(words), capture_output=True, text=True, timeout=60, check=False)


def test_the_dockerfile_has_nothing_to_lint():
    linted = done("hadolint", str(PROJECT / "Dockerfile"))
    assert linted.returncode == 0, linted.stdout


def test_the_compose_file_is_one():
    path = EXAMPLES / "compose.yaml"
    checked = done("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    assert checked.returncode == 0, checked.stdout
    service = yaml.safe_load(path.read_text())["services"]["trunkline"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert (path.parent / service["build"]).resolve() == PROJECT
    for volume in service["volumes"]:
        assert (path.parent / volume.split(":")[0]).is_file()
    checked = trunkline("check", **service["environment"])
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_unit_is_sound_and_locked_down(tmp_path):
    # The unit names where the binary will be; here it stands elsewhere.
    binary = tmp_path / "trunkline"
    shutil.copy(BINARY, binary)
    os.chmod(binary, 0o755)
    unit = tmp_path / "trunkline.service"
    text = (EXAMPLES / "trunkline.service").read_text()
    assert "/usr/local/bin/trunkline" in text
    unit.write_text(text.replace("/usr/local/bin/trunkline", str(binary)))
    # It ends with 0 on what it only warns of.
    verified = done("systemd-analyze", "verify", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = done("systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit))
    assert exposed.returncode == 0, exposed.stdout[-2000:]


def test_a_unit_with_a_mistake_is_noticed(tmp_path):
    unit = tmp_path / "trunkline.service"
    unit.write_text((EXAMPLES / "trunkline.service").read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in done("systemd-analyze", "verify", str(unit)).stderr
