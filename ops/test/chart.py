"""Looks at rendered objects of the chart.

  chart.py rules FILE  every pod obeys the `restricted` standard; agents are probed, spread and rolled as they must be; what goes with
                       them migrates, tests, is scraped, alerts and is shown
  chart.py json FILE   the objects as a JSON list
"""

import json
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NODES, ZONES = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def pods(objects):
    """Every pod template, with its object's kind and name."""
    for item in objects:
        if item["kind"] == "Pod":
            yield item["kind"], item["metadata"]["name"], item["spec"]
        elif item["kind"] in ("Deployment", "Job"):
            yield item["kind"], item["metadata"]["name"], item["spec"]["template"]["spec"]


def restricted(spec):
    """What the PodSecurity standard `restricted` and we ask of a pod."""
    security = spec.get("securityContext", {})
    yield "runs as a user that is not root", security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0
    yield "has seccomp RuntimeDefault", security.get("seccompProfile", {}).get("type") == "RuntimeDefault"
    yield "has no token of Kubernetes", spec.get("automountServiceAccountToken") is False
    for container in spec["containers"]:
        inner = container.get("securityContext", {})
        yield "cannot gain rights", inner.get("allowPrivilegeEscalation") is False
        yield "has no capabilities", inner.get("capabilities", {}).get("drop") == ["ALL"]
        yield "has a read-only root", inner.get("readOnlyRootFilesystem") is True
        yield "has limits", "memory" in container.get("resources", {}).get("limits", {})


def agents(spec):
    """What an agent's Deployment must be."""
    rolling = spec["strategy"]["rollingUpdate"]
    yield "rolls without a gap", rolling == {"maxUnavailable": 0, "maxSurge": 1}
    yield "waits longer than T", spec["minReadySeconds"] > 3
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    yield "asks the right probes", probes == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}
    spread = {rule["topologyKey"]: rule for rule in pod["topologySpreadConstraints"]}
    yield "is spread over nodes", NODES in spread or NODES in str(pod.get("affinity"))
    yield "is spread over zones", ZONES in spread
    # Those of the release before count for nothing.
    yield "is spread while it rolls", NODES not in spread or all(
        rule.get("matchLabelKeys") == ["pod-template-hash"] for rule in spread.values())
    yield "rolls when its configuration changes", "checksum/config" in spec["template"]["metadata"]["annotations"]
    secrets = [entry for entry in container["env"] if entry["name"].endswith("_FILE")]
    yield "reads secrets from files", len(secrets) >= 4
    yield "can be commanded", any(entry["name"] == "BATON_OPERATOR__TOKEN_FILE" for entry in secrets)
    plain = [entry["name"] for entry in container["env"] if "value" in entry and "://" in entry["value"]]
    # None of these may hold a password: the agent refuses one in the collector's address.
    open_urls = {"BATON_CLUSTER__ADDRESS", "BATON_BROKER__URL", "BATON_TRACES__ENDPOINT"}
    yield "has no secret in its environment", set(plain) <= open_urls


def of_kind(objects, kind):
    """Objects of a kind."""
    return [item for item in objects if item["kind"] == kind]


def hook(item):
    """At which event helm makes an object, and in which order."""
    notes = item["metadata"].get("annotations", {})
    return notes.get("helm.sh/hook"), int(notes.get("helm.sh/hook-weight", 0))


def held(pod):
    """Kind and name of what has to be there before a pod starts."""
    for volume in pod["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        for source in volume.get("projected", {}).get("sources", []):
            yield "Secret", source["secret"]["name"]


def beside(objects):
    """What goes with the agents, as named demands."""
    service = next(item for item in of_kind(objects, "Service") if item["metadata"]["labels"].get("app.kubernetes.io/component") == "agent")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]
    maps = {item["metadata"]["name"]: item for item in of_kind(objects, "ConfigMap")}
    job, test = of_kind(objects, "Job")[0], of_kind(objects, "Pod")[0]
    mounted = [volume["configMap"]["name"] for volume in job["spec"]["template"]["spec"]["volumes"] if "configMap" in volume]
    fresh = maps[mounted[0]]
    yield "the schema is migrated before an upgrade", hook(job)[0] == "pre-upgrade"
    # What the release makes itself is changed after its hooks only.
    made = {(item["kind"], item["metadata"]["name"]) for item in objects if hook(item)[0] is None}
    yield "the migration waits for nothing of its own release", not made & set(held(job["spec"]["template"]["spec"]))
    yield "by the new release's settings", hook(fresh)[0] == "pre-upgrade" and hook(fresh)[1] < hook(job)[1] \
        and fresh["data"] == maps[name]["data"]
    # Nobody could take over from one that is alone, so its cluster is never healthy.
    alone = next(item for item in of_kind(objects, "Deployment") if item["metadata"]["name"] == name)["spec"]["replicas"] == 1
    asked = ["healthcheck", "--probe", "leader"] if alone else ["status"]
    yield "helm test asks the Service for the cluster", hook(test)[0] == "test" and \
        test["spec"]["containers"][0]["args"] == [*asked, "--address", f"http://{name}:{port['port']}"]
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted, scraped = monitor["spec"]["selector"]["matchLabels"].items(), monitor["spec"]["endpoints"][0]
        yield "Prometheus scrapes the agents", wanted <= service["metadata"]["labels"].items() and \
            (scraped["port"], scraped["path"]) == (port["name"], "/metrics")
    for rules in of_kind(objects, "PrometheusRule"):
        shipped = yaml.safe_load((ROOT / "ops/prometheus/rules.yml").read_text())["groups"]
        alerts = [[alert for group in groups for alert in group["rules"]] for groups in (rules["spec"]["groups"], shipped)]
        leads = [[alert["annotations"].pop("runbook_url").rsplit("/", 1) for alert in those] for those in alerts]
        yield "the alerts are those that are shipped", alerts[0] == alerts[1]
        yield "and lead to a runbook that is there", all(
            here[1] == there[1] and "127.0.0.1" not in here[0] for here, there in zip(*leads))
        boards = {path.name: json.loads(path.read_text()) for path in (ROOT / "ops/grafana/dashboards").glob("*.json")}
        shown = [item for item in maps.values() if item["metadata"]["labels"].get("grafana_dashboard") == "1"]
        shown = {key.removeprefix("baton-"): json.loads(text) for item in shown for key, text in item["data"].items()}
        yield "Grafana finds every dashboard", shown == boards


def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        objects = [item for item in yaml.safe_load_all(file) if item]
    if sys.argv[1] == "json":
        print(json.dumps(objects))
        return 0
    faults = [f"{kind} {name} does not hold: {what}"
              for kind, name, spec in pods(objects) for what, holds in restricted(spec) if not holds]
    agent = [item for item in objects if item["kind"] == "Deployment"
             and item["metadata"]["labels"].get("app.kubernetes.io/component") == "agent"]
    assert len(agent) == 1, "there is one Deployment of agents"
    faults += [f"the agents do not hold: {what}" for what, holds in agents(agent[0]["spec"]) if not holds]
    faults += [f"does not hold: {what}" for what, holds in beside(objects) if not holds]
    policy = of_kind(objects, "NetworkPolicy")[0]["spec"]
    labels = agent[0]["spec"]["selector"]["matchLabels"].items()
    own = {"podSelector": {"matchLabels": {key: value for key, value in labels if not key.endswith("/component")}}}
    if not any("from" not in rule or own in rule["from"] for rule in policy["ingress"]):
        faults.append("instances cannot reach each other through the NetworkPolicy")
    # PostgreSQL, Redis and its sentinels, the bridge and its feed, Telegram and webhooks, mail, traces: what can be configured.
    ports = [{port["port"] for port in rule["ports"]} for rule in policy["egress"] if "ports" in rule]
    missing = {53, 5432, 6379, 26379, 5000, 8765, 443, 465, 587, 4318}.difference(*ports)
    # A rule without ports lets out to all of its peers'.
    if missing and len(ports) == len(policy["egress"]):
        faults.append(f"the NetworkPolicy lets nobody out to {sorted(missing)}")
    budgets = [item["spec"] for item in of_kind(objects, "PodDisruptionBudget")]
    if agent[0]["spec"]["replicas"] > 1 and [budget["maxUnavailable"] for budget in budgets] != [1]:
        faults.append("a drain of nodes may take more than one instance at a time")
    kinds = {item["kind"] for item in objects}
    faults += [f"there is no {kind}" for kind in {"NetworkPolicy", "ServiceAccount", "Service", "Job"} - kinds]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
