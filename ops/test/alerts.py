"""Checks of the alerts as a set: their tests, their runbook sections, their routes."""

import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROMETHEUS = ROOT / "ops/prometheus"
BASE = "http://127.0.0.1:8080/runbook/"


def load():
    """The rule file, and its rules in order."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return rules, [rule for group in rules["groups"] for rule in group["rules"]]


def tests():
    """Every test of every file."""
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        yield from yaml.safe_load(path.read_text())["tests"]


def sections():
    """RUNBOOK.md as heading -> text."""
    pieces = re.split(r"^### ", (ROOT / "RUNBOOK.md").read_text(), flags=re.M)[1:]
    return {piece.split("\n", 1)[0].strip(): re.split(r"^## ", piece, flags=re.M)[0] for piece in pieces}


def covered():
    """Each alert has a severity, a section that names it, and tests of all three kinds; no section names another."""
    faults = []
    _, rules = load()
    named = {}
    for name, text in sections().items():
        for line in re.findall(r"^Alert: (.*)$", text, flags=re.M):
            for alert in re.findall(r"`(\w+)`", line):
                named.setdefault(alert, []).append(name)
    for rule in rules:
        alert, url = rule["alert"], rule["annotations"].get("runbook_url", "")
        if rule["labels"].get("severity") not in ("page", "ticket", "none"):
            faults.append(f"{alert} has no severity")
        if not {"summary", "description"} <= rule["annotations"].keys():
            faults.append(f"{alert} lacks a summary or a description")
        if named.get(alert) != [url.removeprefix(BASE)]:
            faults.append(f"{alert} points to {url}, but RUNBOOK.md names it in {named.get(alert)}")
    for alert in named.keys() - {rule["alert"] for rule in rules}:
        faults.append(f"RUNBOOK.md names the alert {alert}, which does not exist")

    drills = "".join(path.read_text() for path in (ROOT / "tests").glob("**/*.rs"))
    for name, text in sections().items():
        for drill in re.findall(r"\*\*Last drilled\*\*: .*?`(drill_\w+|[a-z_]{20,})`", text, flags=re.S):
            if f"async fn {drill}(" not in drills:
                faults.append(f"section {name} claims the drill {drill}, which does not exist")

    seen = {}
    for test in tests():
        for step in test.get("promql_expr_test", []):
            alert = re.search(r'alertname="(\w+)"', step["expr"]).group(1)
            steps = seen.setdefault(alert, set())
            fires = bool(step["exp_samples"])
            steps.add("fires" if fires else "resolves" if "fires" in steps else "silent")
    for rule in rules:
        missing = {"fires", "silent", "resolves"} - seen.get(rule["alert"], set())
        # It fires always, by design, and has a test of its own.
        if missing and rule["alert"] != "Watchdog":
            faults.append(f"{rule['alert']} has no test that it {' and '.join(sorted(missing))}")
    return faults


def mentions(test, alert):
    """Whether a test is about this alert."""
    return f'"{alert}"' in str(test.get("promql_expr_test")) or any(
        step["alertname"] == alert for step in test.get("alert_rule_test", []))


def goes_red(rules, own):
    """Whether promtool fails these tests under these rules."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        (folder / "tests.yml").write_text(
            yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": own}))
        command = ["promtool", "test", "rules", str(folder / "tests.yml")]
        return subprocess.run(command, capture_output=True, check=False).returncode != 0


def mutants():
    """With an alert that never fires, or always does, promtool must go red; as they are they are green."""
    rules, flat = load()
    faults = [f"{rule['alert']} has a test that fails" for rule in flat
              if goes_red(rules, [test for test in tests() if mentions(test, rule["alert"])])]
    for never in (True, False):
        _, names = load()
        for at, rule in enumerate(names):
            if rule["alert"] == "Watchdog" and not never:
                continue
            rules, flat = load()
            flat[at]["expr"] = "vector(1) == 0" if never else "vector(1)"
            flat[at].pop("for", None)
            own = [test for test in tests() if mentions(test, rule["alert"])]
            if not goes_red(rules, own):
                faults.append(f"{rule['alert']} may {'never' if never else 'always'} fire, and no test notices")
    return faults


def routes():
    """Prints, an alert a line, where it must go."""
    receivers = {"page": "pager", "ticket": "tickets", "none": "watchdog"}
    for rule in load()[1]:
        labels = {"alertname": rule["alert"], **rule["labels"]}
        print(receivers[rule["labels"]["severity"]], *(f"{key}={value}" for key, value in labels.items()))
    return []


if __name__ == "__main__":
    found = {"covered": covered, "mutants": mutants, "routes": routes}[sys.argv[1]]()
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)
