"""Dashboards and alerts against a real Prometheus that scrapes the real binary under a small load: every expression is
one, and each panel shows something. The rules of Grafana's own dashboard linter are asked of the files."""

import json
import os
import re
import subprocess
import time

import pytest
import requests
import yaml
from conftest import CHART
from load import FILE, Vendor, once
from rig.ports import free_address
from rig.program import Program
from rig.proxy import PROJECT, Proxy
from rig.until import until

PROMETHEUS = os.environ.get("PROMETHEUS", "prometheus")
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
RULES = CHART / "rules/trunkline.yaml"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(CHART.glob("dashboards/*.json"))}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
SCRAPED = """
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [%s]
scrape_configs:
  - { job_name: trunkline, static_configs: [{ targets: ["%s"] }] }
"""


class Asked:
    """The Prometheus."""

    def __init__(self, url: str):
        self.url = url

    def query(self, expression: str) -> list[dict]:
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": filled(expression)}, timeout=30).json()
        assert answer["status"] == "success", (expression, answer)
        return answer["data"]["result"]


def filled(expression: str) -> str:
    """An expression with Grafana's variables put in."""
    expression = expression.replace("$__rate_interval", "1m")
    return re.sub(r"\$\{?\w+\}?", ".+", expression)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prometheus")
    vendor, scraped, listen = Vendor(), free_address(), free_address()
    config = directory / "proxy.yaml"
    config.write_text(FILE.format(vendor=vendor.url, metrics=scraped))
    proxy = Proxy(directory, config)
    settings = directory / "prometheus.yaml"
    settings.write_text(SCRAPED % (RULES, scraped))
    words = [f"--config.file={settings}", f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={listen}"]
    program = Program("prometheus", [PROMETHEUS, *words], directory)
    asked = Asked(f"http://{listen}")

    def scrapes() -> float:
        program.alive()
        try:
            found = asked.query("count_over_time(up{job='trunkline'}[5m])")
        except (requests.RequestException, AssertionError):
            return 0
        return float(found[0]["value"][1]) if found else 0

    until(lambda: scrapes() >= 1, within=60, what="the first scrape")
    end = time.monotonic() + 60
    while scrapes() < 12 and time.monotonic() < end:
        once(proxy.url)
    yield asked
    program.kill()
    proxy.stop()
    vendor.kill()


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_a_panel_shows_something(board, panel, prometheus):
    assert panel["targets"]
    for target in panel["targets"]:
        assert prometheus.query(target["expr"]), target["expr"]


@pytest.mark.parametrize("board", BOARDS)
def test_an_annotation_and_a_variable_are_expressions(board, prometheus):
    for annotation in BOARDS[board]["annotations"]["list"]:
        prometheus.query(annotation["expr"])
    for variable in BOARDS[board]["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            found = prometheus.query(metric.replace("{}", ""))
            assert any(label in series["metric"] for series in found), variable["definition"]


def test_every_alert_is_loaded_and_its_expression_answers(prometheus):
    groups = requests.get(f"{prometheus.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    written = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert sorted(loaded) == sorted(written)
    assert {rule["health"] for rule in loaded.values()} <= {"ok", "unknown"}, loaded
    # What the load has done to the circuit and the stubs is seen.
    until(lambda: prometheus.query('ALERTS{alertname="TrunklineStubsServedInProduction",alertstate="firing"}'), within=30)
    until(lambda: prometheus.query("increase(circuit_breaker_opens_total[1m]) > 0"), within=30)


def test_the_rules_are_sound_and_their_unit_tests_pass():
    for words in (["check", "rules", "--lint=all", str(RULES)], ["test", "rules", str(PROJECT / "tests/ops/rules_test.yaml")]):
        done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_what_to_do_and_is_tested():
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-") for line in (PROJECT / "README.md").read_text().splitlines() if line.startswith("#")}
    tested = yaml.safe_load((PROJECT / "tests/ops/rules_test.yaml").read_text())["tests"]
    tested = {case["alertname"] for test in tested for case in test["alert_rule_test"]}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys()
            page, _, heading = rule["annotations"]["runbook_url"].partition("#")
            assert page == "README.md" and heading in headings, rule["annotations"]["runbook_url"]
            assert rule["alert"] in tested, f"{rule['alert']} has no unit test"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_keeps_the_linter_s_rules(name):
    board = BOARDS[name]
    assert board["uid"] == name and board["id"] is None and board["editable"] is False
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables)[:3] == ["datasource", "job", "instance"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for variable in board["templating"]["list"][1:]:
        assert variable["refresh"] == 2 and variable["multi"] and variable["includeAll"] and variable["allValue"] == ".+"
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            expression = target["expr"]
            selectors = re.findall(r"(?:trunkline|circuit_breaker)_\w+(\{[^}]*\})?", expression)
            assert selectors and all('job=~"$job"' in s and 'instance=~"$instance"' in s for s in selectors), expression
            fixed = re.findall(r"(?:rate|increase|changes)\([^[]*\[(\w+)\]", expression)
            assert all(window == "1h" for window in fixed), expression
            for counter in re.findall(r"\w+_total", expression):
                assert re.search(rf"(?:rate|increase)\({counter}", expression), expression
