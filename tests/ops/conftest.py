"""What the tests of the operators' files share: the project's places, and a directory for each test's programs."""

import pytest
from rig.proxy import PROJECT

CHART = PROJECT / "helm/trunkline"


@pytest.fixture
def running(tmp_path):
    """Ends every program that the test has started, the last one first."""
    programs = []
    yield programs
    for program in reversed(programs):
        program.kill()
