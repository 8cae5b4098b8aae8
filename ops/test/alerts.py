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


HEADINGS = ["Meaning", "Is money at risk now?", "First 60 seconds", "Diagnosis", "Mitigation", "What this will not do",
            "Verify", "Undo", "Last drilled"]


def shaped():
    """Each section of the runbook has all headings, in their order, or says which section has the rest."""
    faults, every = [], {name: re.sub(r"\s+", " ", text) for name, text in sections().items()}

    def missing(name, beside=()):
        """Headings that a section has neither itself nor from where it sends its reader."""
        lacks = [heading for heading in HEADINGS if f"**{heading}**" not in every[name]]
        other = re.search(r"Otherwise as \[[^\]]+\]\(#([\w-]+)\)", every[name])
        if not other or not lacks:
            return lacks
        if other[1] not in every or other[1] in beside:
            return lacks
        return [heading for heading in lacks if heading in missing(other[1], (*beside, name))]

    for name, text in every.items():
        faults += [f"section {name} has no {heading}" for heading in missing(name)]
        if "**Meaning**" not in text:
            faults.append(f"section {name} does not say itself what it means")
        order = [heading for heading in re.findall(r"\*\*([^*]+)\*\*", text) if heading in HEADINGS]
        if order != [heading for heading in HEADINGS if heading in order]:
            faults.append(f"section {name} has its headings in another order: {order}")
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


def provisioned():
    """Grafana's rules ask what Prometheus's ask, for as long, and carry the same labels; and Grafana takes them."""
    folder = ROOT / "ops/grafana/provisioning"
    groups = yaml.safe_load((folder / "alerting/baton.yml").read_text())["groups"]
    datasources = [source["uid"] for path in (folder / "datasources").glob("*.yml")
                   for source in yaml.safe_load(path.read_text())["datasources"]]
    faults, uids = [], set()
    wanted = [(group["name"], rule) for group in load()[0]["groups"] for rule in group["rules"]]
    found = [(group["name"], rule) for group in groups for rule in group["rules"]]
    if [(group, rule["alert"]) for group, rule in wanted] != [(group, rule["title"]) for group, rule in found]:
        faults.append("Grafana has other alerts than Prometheus, or in another order")
    for group in groups:
        # models.ValidateRuleGroupInterval
        if not re.fullmatch(r"[1-9]\d*s", group["interval"]) or int(group["interval"][:-1]) % 10:
            faults.append(f"group {group['name']}: Grafana takes multiples of 10 s, not {group['interval']}")
        if not group.get("folder"):
            faults.append(f"group {group['name']} is in no folder")
    for (_, rule), (_, other) in zip(wanted, found):
        alert, queries = rule["alert"], {query["refId"]: query for query in other["data"]}
        asked = [query for query in queries.values() if query["datasourceUid"] != "__expr__"]
        if [query["model"]["expr"] for query in asked] != [rule["expr"]]:
            faults.append(f"{alert} asks something else in Grafana")
        if any(query["datasourceUid"] not in datasources for query in asked):
            faults.append(f"{alert} asks a datasource that is not provisioned")
        if queries.get(other["condition"], {}).get("datasourceUid") != "__expr__":
            faults.append(f"{alert} has no condition")
        if (other["for"], other["labels"]) != (rule.get("for", "0s"), rule["labels"]):
            faults.append(f"{alert} waits for another time, or has other labels")
        if other["annotations"].keys() != rule["annotations"].keys() or \
                other["annotations"]["runbook_url"] != rule["annotations"]["runbook_url"]:
            faults.append(f"{alert} tells something else in Grafana")
        # There it describes all queries in words.
        if re.search(r"\$value\b", " ".join(other["annotations"].values())):
            faults.append(f"{alert} tells $value, which is no number in Grafana")
        # Prometheus has no sample where nothing is wrong, so silence is no alert; a query that fails is one.
        if (other["noDataState"], other["execErrState"]) != ("OK", "Alerting"):
            faults.append(f"{alert} takes silence for trouble, or trouble for silence")
        if not re.fullmatch(r"[\w-]{1,40}", other["uid"]) or other["uid"] in uids:
            faults.append(f"{alert}: uid {other['uid']} is not Grafana's kind, or there twice")
        uids.add(other["uid"])
    return faults


def routes():
    """Prints, an alert a line, where it must go."""
    receivers = {"page": "pager", "ticket": "tickets", "none": "watchdog"}
    for rule in load()[1]:
        labels = {"alertname": rule["alert"], **rule["labels"]}
        print(receivers[rule["labels"]["severity"]], *(f"{key}={value}" for key, value in labels.items()))
    return []


if __name__ == "__main__":
    checks = {"covered": covered, "shaped": shaped, "mutants": mutants, "provisioned": provisioned, "routes": routes}
    found = checks[sys.argv[1]]()
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)
