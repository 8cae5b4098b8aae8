"""The dashboards' queries, with Grafana's variables filled in.

  dashboards.py rules    a rule file that records each query, for promtool to parse
  dashboards.py queries  a JSON list: dashboard, panel, query, and the awaited series that it needs
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def queries(job="baton", interval="1m"):
    """Every query of every panel: (dashboard, panel, expression)."""
    for path in sorted((ROOT / "ops/grafana/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", interval).replace("$job", job)
                yield board["uid"], panel["title"], text


def awaited():
    """Series that the program does not export yet."""
    return yaml.safe_load((ROOT / "ops/prometheus/metrics.yml").read_text())["awaited"]


def series(expression):
    """The names of Baton's series in an expression, a histogram by its family's name."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bbaton_[a-z_]+", expression)}


def main():
    found = list(queries())
    assert found, "there are no dashboards"
    if sys.argv[1] == "rules":
        rules = [{"record": f"panel:{at}", "expr": text} for at, (_, _, text) in enumerate(found)]
        print(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    else:
        waits = awaited()
        print(json.dumps([
            {"dashboard": board, "panel": panel, "expr": text, "awaits": sorted(series(text) & waits.keys())}
            for board, panel, text in found
        ]))


if __name__ == "__main__":
    main()
