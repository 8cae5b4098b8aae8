"""Gives an agent the settings of chart or compose and lets `baton config check` judge them.

  settings.py BATON chart OBJECTS.yaml
  settings.py BATON compose PROJECT.yaml

Secrets get values of the right form; everything else is what was rendered.
"""

import pathlib
import subprocess
import sys
import tempfile

import yaml

SECRETS = {
    "BATON_POSTGRES__URL_FILE": "postgres://baton:secret@postgres:5432/baton",
    "BATON_REDIS__URL_FILE": "redis://:secret@redis:6379/0",
}


def of_chart(objects):
    """Environment and baton.toml of the agents."""
    agent = next(item for item in objects if item["kind"] == "Deployment"
                 and item["metadata"]["labels"].get("app.kubernetes.io/component") == "agent")
    pod = agent["spec"]["template"]["spec"]
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
    return env, text


def of_compose(project):
    """Environment of the agents; there is no file."""
    return dict(project["services"]["baton"]["environment"]), ""


def main():
    baton, kind, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        documents = [item for item in yaml.safe_load_all(file) if item]
    env, text = of_chart(documents) if kind == "chart" else of_compose(documents[0])
    baton = pathlib.Path(baton).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "baton.toml").write_text(text)
        env["BATON_CONFIG"] = str(folder / "baton.toml")
        for name in [name for name in env if name.endswith("_FILE")]:
            secret = folder / name
            secret.write_text(SECRETS.get(name, "123456:secret"))
            env[name] = str(secret)
        env.setdefault("BATON_CLUSTER__MEMBER", "b1")
        return subprocess.run([baton, "config", "check"], env=env, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
