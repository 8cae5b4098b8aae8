"""Signals flow through the proxy while agents are killed, cut off, rolled and replaced by a later version; then ledger and bridge are compared.

Ends with exit code 0 only if every accepted signal became final, and each order at the bridge is one order of the ledger.
"""

import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

PROXY = "http://127.0.0.1:8080"
PROJECT = "batontest"
SYMBOL, PRICE = "GOLDM05DEC25FUT", 140000
FINAL = {"executed", "refused", "rejected", "not_sent", "abandoned"}


def docker(*arguments):
    """Runs docker and gives what it prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.split()


def agents():
    """Containers of the agents that run."""
    return docker("ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}", "--filter",
                  "label=com.docker.compose.service=baton")


def address(container, network="edge"):
    """A container's address in one of the project's networks."""
    form = f'{{{{(index .NetworkSettings.Networks "{PROJECT}_{network}").IPAddress}}}}'
    return docker("inspect", "--format", form, container)[0]


def call(url, body=None, token=None, timeout=20):
    """(status, JSON) of a request; status 0 when there is no answer."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
    except (OSError, ValueError):
        return 0, None


def until(what, look, patience=90):
    """Looks until there is something."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within {patience} s: {what}")


def leader():
    """The container that leads, and what it says of itself."""
    for container in agents():
        status, answer = call(f"http://{address(container)}:8080/healthz", timeout=2)
        if status == 200 and answer["operational"]["state"] == "ACTIVE":
            return container
    return None


class Traffic(threading.Thread):
    """Sends entries and exits through the proxy, each until it is accepted."""

    def __init__(self, token):
        super().__init__(daemon=True)
        self.token, self.ids, self.repeats, self.stopped = token, [], 0, threading.Event()

    def run(self):
        number = 0
        while not self.stopped.is_set():
            number += 1
            self.deliver(number)
            time.sleep(0.15)

    def deliver(self, number):
        """One signal: entries and exits in turns."""
        while True:
            now = datetime.datetime.now(datetime.timezone.utc)
            body = {"id": f"s{number}", "instrument": "GOLD_MINI", "price": PRICE, "timestamp": now.isoformat()}
            if number % 2:
                body |= {"type": "BASE_ENTRY", "position": "Long_1", "stop": PRICE - 350, "atr": 350, "er": 0.9}
            else:
                later = now + datetime.timedelta(seconds=30)
                body |= {"type": "EXIT", "position": "ALL", "reason": "test", "bar_time": later.isoformat()}
            status, answer = call(f"{PROXY}/webhook", body, self.token)
            if status in (200, 202):
                self.ids.append(answer["id"])
                return
            self.repeats += 1
            time.sleep(0.2)


def disturb(traffic):
    """What happens to the agents; each step waits until somebody trades again."""
    def step(what, act):
        before = len(traffic.ids)
        began = time.monotonic()
        act()
        until(f"somebody trades after: {what}", leader)
        gap = time.monotonic() - began
        until("signals flow on", lambda: len(traffic.ids) >= before + 5)
        print(f"  {what}: somebody trades after {gap:.1f} s")

    def kill():
        old = leader()
        docker("kill", "--signal", "KILL", old)
        until("another leads", lambda: leader() not in (None, old))
        docker("start", old)

    def cut():
        old = until("somebody leads", leader)
        docker("network", "disconnect", f"{PROJECT}_stores", old)
        until("another leads", lambda: leader() not in (None, old))
        docker("network", "connect", f"{PROJECT}_stores", old)

    step("the leader's container is killed", kill)
    step("the leader is cut off from the stores", cut)
    until("all agents are healthy", lambda: healthy() == 3)
    for container in agents():
        step(f"rolling restart: {container}", lambda container=container: docker("restart", "--time", "20", container))
        until("all agents are healthy", lambda: healthy() == 3)
    upgrade(step)


def healthy():
    """Agents that Docker calls healthy."""
    return len(docker("ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}", "--filter",
                      "label=com.docker.compose.service=baton", "--filter", "health=healthy"))


def main():
    token = pathlib.Path(".secrets/signals-token").read_text(encoding="utf-8")
    paper = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}", "--filter",
                   "label=com.docker.compose.service=paper")[0]
    control = f"http://{address(paper)}:5001/_ctl"
    call(f"{control}/price", {"symbol": SYMBOL, "exchange": "MCX", "ltp": str(PRICE)})
    traffic = Traffic(token)
    # The market walks; it is put back, so that prices of signals stay near.
    anchor = threading.Thread(target=hold_price, args=(control, traffic), daemon=True)
    until("somebody leads", leader)
    traffic.start()
    anchor.start()
    disturb(traffic)
    traffic.stopped.set()
    traffic.join()

    ends = collections.Counter()
    for signal in traffic.ids:
        ends[until(f"signal {signal} is final", lambda signal=signal: final(signal))] += 1
    print(f"  {len(traffic.ids)} signals accepted ({traffic.repeats} deliveries repeated), all final: {dict(ends)}")
    return compare(control, ends)


def hold_price(control, traffic):
    """Puts the price back twice a second."""
    while not traffic.stopped.wait(0.5):
        call(f"{control}/price", {"symbol": SYMBOL, "exchange": "MCX", "ltp": str(PRICE)})


def final(signal):
    """The signal's end, once there is one."""
    status, answer = call(f"{PROXY}/api/v1/signals/{signal}")
    return answer["status"] if status == 200 and answer["status"] in FINAL else None


def compose(*arguments, image):
    """Runs compose on the project, with agents of this image."""
    files = ["-f", "docker-compose.yml", "-f", "ops/test/docker/compose.local.yml", "--profile", "demo"]
    done = subprocess.run(["docker-compose", *files, *arguments], env=os.environ | {"BATON_IMAGE": image},
                          check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compose {' '.join(arguments)}: {done.stderr}")
    return done.stdout + done.stderr


def upgrade(step):
    """The next version with its migration, as RUNBOOK.md#rolling-deployment says it for compose."""
    old = agents()
    step("the next version migrates beside the old one",
         lambda: compose("run", "--rm", "--no-deps", "migrate", image="baton:next"))
    step("as many of the next version stand beside the old ones",
         lambda: compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--scale", f"baton={2 * len(old)}", "baton",
                         image="baton:next"))
    until("all agents are healthy", lambda: healthy() == 2 * len(old))
    leads = until("somebody leads", leader)
    for container in sorted(old, key=lambda container: container == leads):
        def replace(container=container):
            docker("stop", "--time", "20", container)
            docker("rm", container)
        step(f"an old one is stopped: {container}", replace)
    versions = {call(f"http://{address(container)}:8080/healthz")[1]["version"] for container in agents()}
    print(f"  {len(agents())} agents, all of version {', '.join(versions)}")
    if len(agents()) != len(old) or versions != {"99.0.0"}:
        sys.exit("not every agent is of the next version")


def compare(control, ends):
    """Every order at the bridge is one intent's, every sent intent is one order's."""
    orders = call(f"{control}/orders")[1]["orders"]
    intents = call(f"{PROXY}/api/v1/orders?limit=1000")[1]["orders"]
    known = collections.Counter(intent["broker_order_id"] for intent in intents if intent["broker_order_id"])
    placed = collections.Counter(order["orderid"] for order in orders)
    doubled = [order for order, times in known.items() if times > 1] + [o for o, times in placed.items() if times > 1]
    unknown = sorted(placed.keys() - known.keys())
    lost = sorted(known.keys() - placed.keys())
    doubt = [intent["id"] for intent in intents if intent["state"] == "in_doubt"]
    print(f"  {len(orders)} orders at the bridge, {len(known)} in the ledger: "
          f"{len(lost)} lost, {len(doubled) + len(unknown)} doubled or unknown, {len(doubt)} in doubt")
    enough = ends["executed"] >= 10
    if not enough:
        print("  too few signals were executed for this to mean anything")
    return 0 if enough and not (doubled or unknown or lost or doubt) else 1


if __name__ == "__main__":
    sys.exit(main())
