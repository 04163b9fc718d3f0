"""The shipped dashboard, rules and scrape configuration; that they name only metrics that there are is tested of a running daemon."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import instruments

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGS = Path(__file__).parents[2] / "configs"
DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONFIGS / "grafana" / "lookalike.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((CONFIGS / "prometheus" / "lookalike.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:lookalike|process)_\w+", re.sub(r'"[^"]*"', "", expression)))


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in dashboard["templating"]["list"]:
        yield variable.get("definition", "")


def test_every_histogram_is_on_the_dashboard(dashboard: dict[str, Any]) -> None:
    asked = set().union(*map(named, expressions(dashboard)))
    assert {f"{one.name}_bucket" for one in instruments.HISTOGRAMS} <= asked


def test_every_panel_asks_the_chosen_prometheus(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    sources = [one["datasource"] for panel in panels for one in (panel, *panel["targets"])]
    assert {json.dumps(source) for source in sources} == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_no_panel_covers_another(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_rule_says_how_bad_it_is_and_is_documented(rules: list[dict[str, Any]]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in document


def test_the_scrape_configuration_loads_the_rules() -> None:
    document = yaml.safe_load((CONFIGS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = document["scrape_configs"]
    assert job["authorization"]["type"] == "Bearer"
    assert [(CONFIGS / "prometheus" / file).is_file() for file in document["rule_files"]] == [True]
