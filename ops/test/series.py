"""Alerts and panels use series that the program declares, or that are listed as awaited; says which are awaited."""

import re
import sys

import alerts
import dashboards
from dashboards import ROOT


def declared():
    """Names of the series in the program's source."""
    source = "".join(path.read_text() for path in (ROOT / "src/telemetry/metrics").glob("*.rs"))
    return set(re.findall(r'"(baton_[a-z_]+)"', source))


def main():
    exported, awaited = declared(), dashboards.awaited()
    users = {}
    for rule in alerts.load()[1]:
        for name in dashboards.series(rule["expr"]):
            users.setdefault(name, []).append(f"alert {rule['alert']}")
    for board, panel, text in dashboards.queries():
        for name in dashboards.series(text):
            users.setdefault(name, []).append(f"panel {board}: {panel}")
    for name in sorted(awaited):
        if name in exported:
            print(f"note: {name} is exported by now: take it out of ops/prometheus/metrics.yml")
        else:
            waiting = [user.removeprefix("alert ") for user in users.get(name, []) if user.startswith("alert")]
            print(f"note: not exported yet: {name}{', waited for by ' + ', '.join(waiting) if waiting else ''}")
    faults = [f"{name} ({', '.join(by)}) is neither exported nor awaited"
              for name, by in sorted(users.items()) if name not in exported and name not in awaited]
    for name in sorted(exported - users.keys()):
        print(f"note: no alert and no panel uses {name}")
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
