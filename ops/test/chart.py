"""Looks at rendered objects of the chart.

  chart.py rules FILE  every pod obeys the `restricted` standard; agents are probed, spread and rolled as they must be
  chart.py json FILE   the objects as a JSON list
"""

import json
import sys

import yaml


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
    yield "is spread", bool(pod["topologySpreadConstraints"])
    yield "rolls when its configuration changes", "checksum/config" in spec["template"]["metadata"]["annotations"]
    secrets = [entry for entry in container["env"] if entry["name"].endswith("_FILE")]
    yield "reads secrets from files", len(secrets) >= 4
    yield "can be commanded", any(entry["name"] == "BATON_OPERATOR__TOKEN_FILE" for entry in secrets)
    plain = [entry["name"] for entry in container["env"] if "value" in entry and "://" in entry["value"]]
    # None of these may hold a password: the agent refuses one in the collector's address.
    open_urls = {"BATON_CLUSTER__ADDRESS", "BATON_BROKER__URL", "BATON_TRACES__ENDPOINT"}
    yield "has no secret in its environment", set(plain) <= open_urls


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
    policy = next(item for item in objects if item["kind"] == "NetworkPolicy")["spec"]
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
    budgets = [item["spec"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    if agent[0]["spec"]["replicas"] > 1 and [budget["maxUnavailable"] for budget in budgets] != [1]:
        faults.append("a drain of nodes may take more than one instance at a time")
    kinds = {item["kind"] for item in objects}
    faults += [f"there is no {kind}" for kind in {"NetworkPolicy", "ServiceAccount", "Service", "Job"} - kinds]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
