"""For a producer's own CI: do my events fit Heed, and will they still fit after its next release?

    python check_contract.py events WHERE FILE…    every sample event against the published schemas
    python check_contract.py change OLD NEW        what NEW takes less than OLD: nothing, if it only adds

WHERE, OLD and NEW are the address of a running Heed (http://heed:8080; its /asyncapi.json is read, which
needs no key), such a document as a file, a schema of docs/schemas, or a folder of them. A FILE holds one
event, a list of them, or one a line. Needs Python 3.11 and nothing else: copy it into your repository.

The rule: a published schema is only added to. Nothing is removed, nothing more is required, no type, value,
bound or pattern is narrowed. A new field is optional, and whoever reads ignores what he does not know. What
cannot be so becomes a new version of the type; what is sent in an older one is taken for ever.
Exit code: 0 all is well; 1 each fault on a line of its own; 2 asked in a way that cannot be answered.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TYPES = {
    "string": str,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
    "integer": int,
    "number": (int, float),
}
# What a schema may say beside a rule.
SAID = {"$schema", "$id", "$defs", "title", "description", "format", "examples"}
LEAST = ("minLength", "minItems", "minimum")
MOST = ("maxLength", "maxItems", "maximum")
RULES = {"type", "const", "enum", "pattern", "properties", "required", "items", *LEAST, *MOST}

Schema = dict[str, Any]


class Usage(Exception):
    """Asked in a way that cannot be answered; the text says what to change."""


def load(where: str) -> dict[str, Schema]:
    """The schemas found there, by what they are of: `mail.clicked:1`, `mail.clicked:1 on the log`."""
    if where.startswith(("http://", "https://")):
        url = where if where.endswith(".json") else where.rstrip("/") + "/asyncapi.json"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
            return _schemas(json.load(answer))
    path = Path(where)
    paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
    found: dict[str, Schema] = {}
    for one in paths:
        found |= _schemas(json.loads(one.read_bytes()))
    if not found:
        raise Usage(f"{where}: there are no schemas.")
    return found


def _schemas(document: Schema) -> dict[str, Schema]:
    if "asyncapi" in document:
        payloads = [message["payload"] for message in document["components"]["messages"].values()]
    else:
        payloads = [document] if "properties" in document else []
    found = [resolve(one, document) for one in payloads]
    return {name_of(one): one for one in found}


def name_of(schema: Schema) -> str:
    """What a schema is of: the type and its version, and whether it is told to Heed or stands on the log."""
    properties = schema["properties"]
    version = properties.get("dataschema", {}).get("const", "").rpartition(":")[2]
    name = ":".join(part for part in (properties["type"]["const"], version) if part)
    return f"{name} on the log" if "accepted" in properties else name


def resolve(schema: Any, document: Schema, depth: int = 0) -> Any:
    """A schema with every reference replaced by what it leads to, and without its definitions."""
    if depth > 64:
        raise Usage("the schemas lead in a circle.")
    if isinstance(schema, list):
        return [resolve(one, document, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        found: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolve(found, document, depth + 1)
    return {name: resolve(one, document, depth + 1) for name, one in schema.items() if name != "$defs"}


def faults(schema: Schema, value: Any, at: str = "event") -> Iterator[str]:
    """What is wrong with a value, one sentence each, never with the value itself."""
    known(schema, at)
    listed = allowed(schema)
    if listed is not None and json.dumps(value) not in listed:
        yield f"{at} must be {' or '.join(sorted(listed))}."
    if "type" in schema and not any(is_a(value, name) for name in types(schema)):
        yield f"{at} must be {' or '.join(sorted(types(schema)))}."
        return
    if isinstance(value, str):
        yield from _within(schema, "Length", len(value), at)
        if "pattern" in schema and not matches(schema["pattern"], value):
            yield f"{at} must match {schema['pattern']}."
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _within(schema, "imum", value, at)
    elif isinstance(value, list):
        yield from _within(schema, "Items", len(value), at)
        for number, item in enumerate(value):
            yield from faults(schema.get("items", {}), item, f"{at}[{number}]")
    elif isinstance(value, dict):
        yield from (f"{at}.{name} is required." for name in schema.get("required", ()) if name not in value)
        for name, one in schema.get("properties", {}).items():
            if name in value:
                yield from faults(one, value[name], f"{at}.{name}")


def _within(schema: Schema, what: str, size: float, at: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and size < least:
        yield f"{at}: at least {least}."
    if most is not None and size > most:
        yield f"{at}: at most {most}."


def narrowed(old: Schema, new: Schema, at: str = "event") -> Iterator[str]:
    """What the new schema takes less than the old one, one sentence each."""
    known(old, at)
    known(new, at)
    was, is_ = types(old), types(new)
    if not was <= is_ | ({"integer"} if "number" in is_ else set()):
        yield f"{at}: its type was {' or '.join(sorted(was))} and is {' or '.join(sorted(is_))}."
    before, after = allowed(old), allowed(new)
    if after is not None and (before is None or not before <= after):
        yield f"{at}: not every value that it took is taken."
    for rule in LEAST:
        if new.get(rule, -float("inf")) > old.get(rule, 0 if rule != "minimum" else -float("inf")):
            yield f"{at}: {rule} is {new[rule]} and was {old.get(rule, 'not there')}."
    for rule in MOST:
        if new.get(rule, float("inf")) < old.get(rule, float("inf")):
            yield f"{at}: {rule} is {new[rule]} and was {old.get(rule, 'not there')}."
    for rule in ("pattern", "format"):
        if rule in new and new[rule] != old.get(rule):
            yield f"{at}: its {rule} is another."
    more = sorted(set(new.get("required", ())) - set(old.get("required", ())))
    yield from (f"{at}.{name}: is required and was not." for name in more)
    for name, one in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from narrowed(one, new["properties"][name], f"{at}.{name}")
        else:
            yield f"{at}.{name}: is gone."
    if "items" in new:
        yield from narrowed(old.get("items", {}), new["items"], f"{at}[]")


def known(schema: Schema, at: str) -> None:
    """Refuses a rule that this file does not know: what it cannot judge it must not pass."""
    if strange := sorted(set(schema) - RULES - SAID):
        raise Usage(f"{at}: {', '.join(strange)}: not known here. Fetch a newer check_contract.py.")


def types(schema: Schema) -> set[str]:
    """The names of the types that a schema takes."""
    if "type" not in schema:
        listed = values(schema)
        return {json_type(one) for one in listed} if listed else set(TYPES)
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])


def json_type(value: Any) -> str:
    return next(name for name in TYPES if is_a(value, name))


def is_a(value: Any, name: str) -> bool:
    if name in ("integer", "number") and isinstance(value, bool):
        return False
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])  # type: ignore[arg-type]


def values(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def allowed(schema: Schema) -> set[str] | None:
    """The values that a schema lists, as JSON; None: it lists none."""
    return {json.dumps(one) for one in values(schema)} if {"const", "enum"} & set(schema) else None


def matches(pattern: str, text: str) -> bool:
    """As JSON Schema means it: `$` of Python would let a line break behind it pass."""
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1] + r"\Z"
    return re.search(pattern, text) is not None


def read_events(path: Path) -> list[Any]:
    """The events of a file: one, a list, or one a line."""
    text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise Usage(f"{path}: neither JSON nor one JSON value a line.") from None
    return found if isinstance(found, list) else [found]


def check_events(where: str, files: list[str]) -> Iterator[str]:
    """Each fault of each event of these files."""
    schemas = load(where)
    for name in files:
        for number, event in enumerate(read_events(Path(name)), 1):
            kind = _kind(event)
            if kind in schemas:
                yield from (f"{name}:{number}: {fault}" for fault in faults(schemas[kind], event))
            else:
                told = ", ".join(sorted(one for one in schemas if " on the log" not in one))
                yield f"{name}:{number}: type and version of the event must be one of {told}."


def _kind(event: Any) -> str:
    """The type and version of an event; no `dataschema` means version 1."""
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return ""
    version = str(event.get("dataschema") or ":1").rpartition(":")[2]
    return f"{event['type']}:{version}"


def check_change(where_old: str, where_new: str) -> Iterator[str]:
    """Each thing that the new schemas take less."""
    old, new = load(where_old), load(where_new)
    for name in old:
        if name in new:
            yield from (f"{name}: {fault}" for fault in narrowed(old[name], new[name]))
        elif not _has_newer(name, new):
            yield f"{name}: is gone."


def _has_newer(name: str, schemas: dict[str, Schema]) -> bool:
    """Whether a later version is told instead: Heed takes the older ones, too. Of the log one must know."""
    kind, _, version = name.partition(":")
    later = (one.partition(":") for one in schemas)
    return version.isdigit() and any(
        it == kind and number.isdigit() and int(number) > int(version) for it, _, number in later
    )


def main(arguments: list[str]) -> int:
    """Print each fault; give the exit code."""
    try:
        match arguments:
            case ["events", where, *files] if files:
                found = list(check_events(where, files))
            case ["change", old, new]:
                found = list(check_change(old, new))
            case _:
                raise Usage(__doc__ or "")
    except (Usage, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("".join(f"{fault}\n" for fault in found) or "All is well.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
