"""Gives an agent the settings of chart or compose, lets `baton config check` judge them, and looks whether a Service or a container
listens wherever they lead, and whether they have the time that the agent takes.

  settings.py BATON chart OBJECTS.yaml
  settings.py BATON compose PROJECT.yaml
  settings.py BATON secrets VALUES.yaml    every secret that the agent knows can be given through the chart, and is its own

Secrets get values of the right form; everything else is what was rendered.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

SECRETS = {
    "BATON_POSTGRES__URL_FILE": "postgres://baton:secret@postgres:5432/baton",
    "BATON_REDIS__URL_FILE": "redis://:secret@redis:6379/0",
    "BATON_REDIS__SENTINELS_FILE": "redis://:secret@sentinel-0:26379,redis://:secret@sentinel-1:26379",
    "BATON_NOTIFY__WEBHOOK_URL_FILE": "https://hooks.example/secret",
    "BATON_NOTIFY__SLACK_URL_FILE": "https://hooks.example/secret",
    "BATON_NOTIFY__SMTP_URL_FILE": "smtps://user:secret@mail.example:465",
    "BATON_NOTIFY__HEARTBEAT_URL_FILE": "https://beats.example/secret",
}
# As CloudNativePG writes it.
OF_AN_OPERATOR = "postgresql://app:secret@desk-pg-rw.trading:5432/app"


def deployment(objects):
    """The chart's agents."""
    return next(item for item in objects if item["kind"] == "Deployment"
                and item["metadata"]["labels"].get("app.kubernetes.io/component") == "agent")["spec"]


def files(pod):
    """Path -> Secret and key, of the secrets that are mounted."""
    sources = next(volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] == "secrets")
    at = next(mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "secrets")
    return {f"{at}/{item['path']}": (source["secret"]["name"], item["key"]) for source in sources for item in source["secret"]["items"]}


def late(documents, kind, shown):
    """What of the time that pods or containers have is too short for what the agent says of its own."""
    ms = {entry["key"]: entry["value"] for entry in shown}
    needed = (ms["shutdown.budget_ms"] + ms["broker.order_timeout_ms"] + ms["timing.lease_ttl_ms"]) / 1000
    if kind == "compose":
        given = int(documents[0]["services"]["baton"]["stop_grace_period"].removesuffix("s"))
    else:
        agents = deployment(documents)
        pod = agents["template"]["spec"]
        given = pod["terminationGracePeriodSeconds"]
        needed += pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if agents["minReadySeconds"] * 1000 <= ms["timing.lease_ttl_ms"]:
            yield "the next instance is replaced before a lease is over"
    if given < needed:
        yield f"an agent that needs {needed} s to stop is killed after {given} s"


def of_chart(objects):
    """Environment and baton.toml of the agents."""
    pod = deployment(objects)["template"]["spec"]
    name = next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config")
    text = next(item["data"]["baton.toml"] for item in objects
                if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name)
    fields = {"metadata.name": "rel-baton-7c9f8d6b5c-abcde", "status.podIP": "10.1.2.3"}
    env = {}
    for entry in pod["containers"][0]["env"]:
        value = entry.get("value") or fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for known, found in env.items():
            value = value.replace(f"$({known})", found)
        env[entry["name"]] = value
    mounted = files(pod)
    faults = [f"{name} names {path}, where nothing is" for name, path in env.items() if name.endswith("_FILE") and path not in mounted]
    assert not faults, faults
    return {name: OF_AN_OPERATOR if mounted.get(value, ("", ""))[1] == "uri" else value for name, value in env.items()}, text


def of_compose(project):
    """Environment of the agents; there is no file."""
    return dict(project["services"]["baton"]["environment"]), ""


def listening(kind, documents):
    """Name -> ports of what chart or compose sets beside the agents. Only programs of ours say in their arguments where they listen."""
    if kind == "compose":
        known = {"postgres": {5432}, "redis": {6379}}
        arguments = {name: service.get("command") or [] for name, service in documents[0]["services"].items()}
        return known | {name: {int(word.rsplit(":", 1)[1]) for word in words if re.fullmatch(r"0\.0\.0\.0:\d+", word)}
                        for name, words in arguments.items() if words[:1] == ["paper"]}
    return {item["metadata"]["name"]: {port["port"] for port in item["spec"]["ports"]}
            for item in documents if item["kind"] == "Service"}


def leads_nowhere(shown, secrets, services):
    """Addresses that lead to one of these services, and to a port of which it knows nothing."""
    settings = {entry["key"]: entry["value"] for entry in shown}
    urls = [settings["broker.url"], *secrets]
    if settings.get("feed.url"):
        urls.append(settings["feed.url"])
    else:
        # As the agent derives it.
        port = re.search(r"PROXY_PORT: u16 = (\d+)", (ROOT / "src/config/feed.rs").read_text())[1]
        urls.append(f"ws://{urllib.parse.urlsplit(settings['broker.url']).hostname}:{port}")
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if parts.port not in services.get(parts.hostname, {parts.port}):
            yield f"nothing listens at {parts.hostname}:{parts.port}, where agents connect to"
        elif parts.hostname.startswith("rel-") and parts.hostname not in services:
            yield f"agents connect to {parts.hostname}, which is no Service of the chart"


def unknown(baton, values):
    """Secrets that agent and chart do not both know."""
    keys, said = values["secrets"]["keys"], subprocess.run(
        [baton, "secrets", "check", "-o", "json"], env={}, check=False, capture_output=True).stdout
    of = re.findall(r'"(\w+)" "([A-Z_]+)"', (ROOT / "helm/baton/templates/_helpers.tpl").read_text())
    settings = {name: setting.lower().replace("__", ".") for name, setting in of}
    known = {secret["key"] for secret in json.loads(said)}
    yield from (f"the chart cannot be given {secret}" for secret in sorted(known - set(settings.values())))
    yield from (f"the agent knows no {secret}" for secret in sorted(set(settings.values()) - known))
    yield from (f"secrets.keys.{name} is no value or no setting" for name in sorted(keys.keys() ^ settings.keys()))


def main():
    baton, kind, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        documents = [item for item in yaml.safe_load_all(file) if item]
    if kind == "secrets":
        faults = list(unknown(pathlib.Path(baton).resolve(), documents[0]))
        print("\n".join(faults), file=sys.stderr)
        return 1 if faults else 0
    env, text = of_chart(documents) if kind == "chart" else of_compose(documents[0])
    baton = pathlib.Path(baton).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "baton.toml").write_text(text)
        env["BATON_CONFIG"] = str(folder / "baton.toml")
        for name in [name for name in env if name.endswith("_FILE")]:
            secret = folder / name
            secret.write_text(env[name] if "://" in env[name] else SECRETS.get(name, "123456:secret"))
            env[name] = str(secret)
        env.setdefault("BATON_CLUSTER__MEMBER", "b1")
        if code := subprocess.run([baton, "config", "check"], env=env, cwd=folder, check=False).returncode:
            return code
        shown = subprocess.run([baton, "config", "show", "-o", "json"], env=env, cwd=folder, check=True, capture_output=True)
        urls = [value for item in documents if item.get("kind") == "Secret" for value in item["stringData"].values() if "://" in value]
        shown = json.loads(shown.stdout)
        stores = [SECRETS[f"BATON_{store}__URL_FILE"] for store in ("POSTGRES", "REDIS")]
        faults = list(leads_nowhere(shown, urls or stores, listening(kind, documents)))
        faults += late(documents, kind, shown)
        print("\n".join(faults), file=sys.stderr)
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
