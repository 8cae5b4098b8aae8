"""What every service of the compose project must hold: `compose.py FILE`, the output of `docker compose config`."""

import ipaddress
import os
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def holds(name, service):
    """Named demands and whether the service meets them."""
    yield "no container_name", "container_name" not in service
    yield "read-only root", service.get("read_only") is True
    yield "no capabilities", service.get("cap_drop") == ["ALL"]
    yield "no new privileges", "no-new-privileges:true" in service.get("security_opt", [])
    yield "a memory limit", int(service.get("mem_limit", 0)) > 0
    yield "a pid limit", service.get("pids_limit", 0) > 0
    for port in service.get("ports", []):
        yield "ports on loopback only", port.get("host_ip") == "127.0.0.1"
    if name in ("postgres", "redis"):
        yield "on the stores' network only", list(service["networks"]) == ["stores"]
    for key, value in (service.get("environment") or {}).items():
        secret = any(word in key for word in ("PASSWORD", "TOKEN", "_KEY", "POSTGRES__URL", "REDIS__URL"))
        yield f"{key} comes from a file", not secret or (key.endswith("_FILE") and value.startswith(("/run/secrets/", "/etc/baton/secrets/")))


def proxied(agents, edge):
    """Named demands on the proxy and on its network, and whether they are met."""
    lines = [line.strip() for line in (ROOT / "ops/compose/haproxy.cfg").read_text().splitlines()]
    repeated = next((line.split()[1:] for line in lines if line.startswith("retry-on ")), [])
    guard = "http-request disable-l7-retry unless METH_GET || { path /webhook }"
    yield "commands are not repeated at another agent", guard in lines or not set(repeated) - {"conn-failure"}
    subnets = [block["subnet"] for block in (edge.get("ipam") or {}).get("config") or []]
    trusted = agents["environment"].get("BATON_SIGNALS__TRUSTED_PROXIES", "").split(",")
    yield "agents see who sends", "option forwardfor" in lines
    yield "the proxy's network is one of a fixed size", subnets == [os.environ.get("BATON_EDGE_SUBNET", "10.213.47.0/24")] and \
        ipaddress.ip_network(subnets[0]).num_addresses <= 256
    yield "agents believe the proxy's network alone", trusted == subnets


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        project = yaml.safe_load(file)
    services = project["services"]
    faults = [f"{name} lacks: {what}" for name, service in services.items() for what, ok in holds(name, service)
              if not ok]
    agents = services["baton"]
    expected = {
        "three agents": agents["deploy"]["replicas"] == 3,
        "somebody can command the agents": "BATON_OPERATOR__TOKEN_FILE" in agents["environment"]
        and any(secret["source"] == "operator-token" for secret in agents["secrets"]),
        "agents start after the migration": agents["depends_on"]["migrate"]["condition"]
        == "service_completed_successfully",
        "the proxy starts after an agent is healthy": services["proxy"]["depends_on"]["baton"]["condition"]
        == "service_healthy",
        "the stores' network leads nowhere": project["networks"]["stores"].get("internal") is True,
    }
    faults += [what for what, ok in [*expected.items(), *proxied(agents, project["networks"]["edge"] or {})] if not ok]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
