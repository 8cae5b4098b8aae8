"""Whether a bill of materials is one: `sbom.py baton.cdx.json`. Every crate in it is in Cargo.lock, with that checksum."""

import json
import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    bill = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    locked = {(crate["name"], crate["version"]): crate.get("checksum") for crate in lock["package"]}
    faults = []
    for crate in bill["components"]:
        name = f"{crate['name']} {crate['version']}"
        if (crate["name"], crate["version"]) not in locked:
            faults.append(f"{name} is not in Cargo.lock")
            continue
        checksum = locked[crate["name"], crate["version"]]
        stated = [value["content"] for value in crate.get("hashes", [])]
        if stated != ([checksum] if checksum else []):
            faults.append(f"{name} has another checksum in Cargo.lock")
        if not crate.get("licenses"):
            faults.append(f"{name} has no licence")
    known = {bill["metadata"]["component"]["bom-ref"]} | {crate["bom-ref"] for crate in bill["components"]}
    for entry in bill["dependencies"]:
        faults += [f"{entry['ref']} depends on {one}, which is not listed" for one in entry["dependsOn"] if one not in known]
    # The program cannot do without these.
    listed = {crate["name"] for crate in bill["components"]}
    faults += [f"{name} is missing" for name in ("tokio", "rustls", "tokio-postgres", "ha") if name not in listed]
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
