"""Which alert keeps which quiet, asked of a running Alertmanager: `inhibitions.py ALERTMANAGER CONFIG SCRATCH`."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from alerts import load

# The cause, and what follows from it; nothing else is kept quiet by it, and no cause keeps another quiet.
MUTED = {
    "AgentDown": {"NoLeader", "ReplicaMissing", "SignalLoss"},
    "DatabaseUnavailable": {"NoLeader", "ReplicaMissing", "LeaderInError", "ReconcileStale"},
    "ValidationFailed": {"LeaderInError", "ReplicaMissing"},
    "DataCorrupt": {"LeaderInError", "ReplicaMissing"},
    "BrokerDown": {"FeedStale", "ReconcileStale"},
}
PATIENCE_S = 30


def firing():
    """For each cause a namespace in which it fires with all that are no causes; in another job of it they fire without it. In one
    namespace all causes fire, and nothing else.

    So each cause fires where what it keeps quiet in its own cluster fires in another one of the same namespace, or of the same job.
    """
    others = [rule["alert"] for rule in load()[1] if rule["alert"] not in MUTED]
    for cause in MUTED:
        for job, names in (("baton", [cause, *others]), ("other", others)):
            yield from ({"labels": {"alertname": name, "namespace": cause, "job": job}} for name in names)
    yield from ({"labels": {"alertname": cause, "namespace": "all", "job": "baton"}} for cause in MUTED)


def asked(url, body=None):
    """What Alertmanager answers; none while it does not."""
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()
    except (urllib.error.URLError, ConnectionError):
        return None


def quiet(alerts):
    """Cause -> what is muted beside it; and what is muted where no cause of it fires."""
    muted = {cause: set() for cause in MUTED}
    stray = set()
    for alert in alerts:
        labels = alert["labels"]
        if alert["status"]["inhibitedBy"]:
            beside = muted.get(labels["namespace"], stray) if labels["job"] == "baton" else stray
            beside.add(labels["alertname"])
    return muted, stray


def until(found):
    """The first answer that is one, or the last before patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def main():
    program, config, scratch = sys.argv[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"http://{address}/api/v2/alerts"
    command = [program, f"--config.file={config}", f"--storage.path={scratch}/alertmanager-data", "--cluster.listen-address=",
               f"--web.listen-address={address}"]
    sent = list(firing())
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as alertmanager:
        try:
            if until(lambda: asked(url, sent) is not None) is not True:
                sys.exit("Alertmanager does not start")
            seen = []

            def settled():
                seen[:] = json.loads(asked(url) or "[]")
                return len(seen) == len(sent) and quiet(seen) == (MUTED, set())
            until(settled)
        finally:
            alertmanager.terminate()
    muted, stray = quiet(seen)
    faults = [f"beside {cause} {sorted(muted[cause])} are quiet, not {sorted(names)}" for cause, names in MUTED.items()
              if muted[cause] != names]
    faults += [f"{name} is quiet without a cause in its cluster" for name in sorted(stray)]
    faults += [f"{len(seen)} of {len(sent)} alerts are there"] * (len(seen) != len(sent))
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
