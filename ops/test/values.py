"""Whether the chart's values are documented, and are those of its schema: `values.py`."""

import json
import pathlib
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parent.parent.parent / "helm/baton"


def undocumented(text):
    """Values above which nothing says what they are; what stands above a group is said of all in it."""
    above, groups = False, []
    for line in text.splitlines():
        bare, depth = line.strip(), len(line) - len(line.lstrip())
        if not bare or bare.startswith("#"):
            above = bool(bare)
            continue
        groups = [(at, told) for at, told in groups if at < depth]
        told = above or any(said for _, said in groups)
        above = False
        name, _, value = bare.partition(":")
        if value and not told:
            yield name
        # A group, or a text.
        groups.append((depth, told))


def differing(values, schema, path=""):
    """Values that the schema does not name, and the reverse. What is empty by default is filled by whoever uses it."""
    for name in values.keys() - schema["properties"].keys():
        yield f"{path}{name} is in no schema"
    for name in schema["properties"].keys() - values.keys() - {"global"}:
        yield f"{path}{name} is in the schema, but not in values.yaml"
    for name, value in values.items():
        inner = schema["properties"].get(name, {})
        if "properties" in inner and value:
            if inner.get("additionalProperties") is not False:
                yield f"{path}{name} takes what nobody has named"
            yield from differing(value, inner, f"{path}{name}.")


def main():
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    faults = [f"nothing says what {name} is" for name in undocumented(text)]
    faults += differing(yaml.safe_load(text), schema)
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
