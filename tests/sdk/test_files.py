"""What ships beside the program is what the tests use: the editor's schema and the snippets of the README."""

import subprocess

import pytest

from rig.proxy import PROJECT, SHIPPED, trunkline
from rig.sdks import SNIPPETS

SCHEMA = PROJECT / "proxy.schema.json"


def check_jsonschema(*words: object) -> None:
    checked = subprocess.run(["check-jsonschema", *map(str, words)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_is_a_schema():
    check_jsonschema("--check-metaschema", SCHEMA)


def test_the_shipped_file_obeys_the_schema():
    check_jsonschema("--schemafile", SCHEMA, SHIPPED)


def test_the_schema_refuses_an_unknown_key(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SHIPPED.read_text().replace("\nupstreams:", "\nupstream:", 1))
    with pytest.raises(AssertionError, match="upstream"):
        check_jsonschema("--schemafile", SCHEMA, wrong)


def test_the_committed_schema_is_current():
    assert trunkline("schema").stdout == SCHEMA.read_text()


@pytest.mark.parametrize("snippet", sorted(SNIPPETS.iterdir()), ids=lambda file: file.name)
def test_the_readme_shows_the_snippet_that_is_tested(snippet):
    """In the README each stands in a fence after a comment that names it."""
    _, mark, after = (PROJECT / "README.md").read_text().partition(f"<!-- snippet: {snippet.name} -->\n")
    assert mark, f"the README does not show {snippet.name}"
    fence, _, code = after.lstrip("\n").partition("\n")
    assert fence.startswith("```")
    assert code.partition("\n```")[0] + "\n" == snippet.read_text()
