"""Checks of a configuration. A problem is one line that names the key and the nearest existing key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bench.train.run_options import TABLES
from models.base import Section

#: What people write for a key → its last part.
_USUAL = {"lr": "learning_rate", "bs": "batch_size", "epochs": "steps"}


class Problem(Exception):
    """A value of a configuration is not valid.

    Attributes:
        key: its dotted name.
        text: the problem, in one line.
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        self.text = text


def validate(model: type[BaseModel], values: Any, kind: type[Section], prefix: tuple[str, ...]) -> Any:
    """``values`` converted to a ``model``.

    Args:
        model: type of a table.
        values: its content, as JSON values.
        kind: type of the method's whole configuration; its keys are proposed in messages.
        prefix: names of the tables that contain it.

    Raises:
        Problem: the first problem.
    """
    try:
        # In strict mode, so that "3" and true are not accepted as numbers; and as JSON, which has no tuples.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        known = keys(kind)
        errors = [_untagged(one, known, prefix) for one in error.errors(include_url=False)]
        found = _of_one_value(errors, known, prefix)
        raise _problem(found, kind, prefix) from None


def _untagged(error: Any, known: Sequence[str], prefix: tuple[str, ...]) -> Any:
    """The error without the names by which pydantic tells apart the forms of a table that has several."""
    place: list[Any] = []
    for number, part in enumerate(error["loc"], 1):
        path = ".".join(map(str, (*prefix, *place, part)))
        last = number == len(error["loc"]) and error["type"] == "extra_forbidden"
        if last or isinstance(part, int) or any(within(path, key) for key in known):
            place.append(part)
    return {**error, "loc": tuple(place)}


def _of_one_value(errors: Sequence[Any], known: Sequence[str], prefix: tuple[str, ...]) -> Any:
    """The first error; for a value of several possible types, which has an error for each, one that says them all."""
    first = errors[0]
    *table, last = first["loc"] or ("",)
    if last == "" or ".".join(map(str, (*prefix, *table))) not in known or isinstance(last, int):
        return first
    same = [error["msg"] for error in errors if list(error["loc"][:-1]) == table]
    said = ", or ".join(message.removeprefix("Input should be ") for message in same)
    return {**first, "loc": tuple(table), "msg": f"Input should be {said}"}


def _problem(error: Any, kind: type[Section], prefix: tuple[str, ...]) -> Problem:
    key = ".".join(map(str, (*prefix, *error["loc"])))
    value = error["input"]
    if error["type"] == "missing":  # the input is the table around it
        return Problem(key, f"{key} is missing")
    # A table instead of a value is the result of a key with one part too many.
    if error["type"] == "extra_forbidden" or (isinstance(value, dict) and key in keys(kind)):
        if isinstance(value, dict) and value:
            key = f"{key}.{next(leaves(value))[0]}"
        if key in keys(kind):
            return Problem(
                key, f"{key}: the form that the table has by its other keys, such as view, has no such key"
            )
        return Problem(key, unknown(key, kind))
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if isinstance(value, dict):
        return Problem(key, f"{key}: {message}" if key else message)
    if error["type"] in ("model_type", "model_attributes_type"):
        message = f"must be a table, with keys such as {_nearest(key, keys(kind))}"
    if value in ("null", "None") and may_be_none(kind, key):
        message = "write none"
    return Problem(key, f"{key}={show(value)}: {message}")


def unknown(key: str, kind: type[Section], among: Sequence[str] | None = None) -> str:
    """The message about an unknown key; proposes the nearest of ``among`` (None: of all keys)."""
    return f"{key}: no such key; did you mean {_proposal(key, kind, among)}?"


def _proposal(key: str, kind: type[Section], among: Sequence[str] | None) -> str:
    """Where a key without its table exists in several ones, all of these, those of training first; else the nearest."""
    choice = keys(kind) if among is None else among
    twins = [other for other in choice if "." not in key and _names(key, other.rpartition(".")[2])]
    if len(twins) < 2:
        return _nearest(key, choice)
    twins.sort(key=lambda other: ".train." not in other)
    return f"{', '.join(twins[:-1])} or {twins[-1]}"


def _names(word: str, last: str) -> bool:
    """Whether a word is the last part of a key, or what people write for it."""
    return _USUAL.get(word, word) == last


def _nearest(key: str, choice: Sequence[str]) -> str:
    """The existing key most similar to ``key``: as a whole, or with the same last part in another table."""

    def likeness(other: str) -> float:
        mine, last = key.rpartition(".")[2], other.rpartition(".")[2]
        same = 1.0 if _names(mine, last) else difflib.SequenceMatcher(None, mine, last).ratio()
        # A value has no keys of its own.
        within = key.startswith(f"{other}.")
        return within + same + difflib.SequenceMatcher(None, key, other).ratio()

    return max(choice, key=likeness)


def keys(kind: type[Section]) -> list[str]:
    """All keys of a configuration; those that every run has come last."""
    return list(_annotations(kind))


def _annotations(kind: type[Section]) -> dict[str, Any]:
    found = dict(_walk(kind, ()))
    for name, table in TABLES.items():
        found |= _walk(table, (name,))
    return found


def _walk(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Dotted names of the values, and their annotations."""
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        forms = (field.annotation, *map(_plain, get_args(field.annotation)))
        tables = [form for form in forms if _is_table(form)]
        if tables:
            for table in tables:
                yield from _walk(table, path)
        else:
            yield ".".join(path), field.annotation


def _plain(annotation: Any) -> Any:
    """A type without what ``Annotated`` says of it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def may_be_none(kind: type[Section], key: str) -> bool:
    """Whether ``none`` is allowed for a key."""
    return type(None) in get_args(_annotations(kind).get(key))


def within(key: str, other: str) -> bool:
    """Whether the keys are the same, or one is a table that contains the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested tables."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            for rest, leaf in leaves(value):
                yield f"{name}.{rest}", leaf
        else:
            yield name, value


def show(value: Any) -> str:
    """A value in the syntax of ``--set``."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
