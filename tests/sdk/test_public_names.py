"""What the public modules offer: complete, there, and named by one rule."""

import ast
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import mq9
from mq9 import models

MODULES = [
    "langchain_mq9",
    "langchain_mq9.testing",
    "mcp_server",
    "mq9",
    "mq9.client.consumer",
    "mq9.clock",
    "mq9.errors",
    "mq9.models",
    "mq9.operations",
    "mq9.testing",
]
LAZY = ["mcp_server", "mq9"]
OFFERED = [(module, name) for module in MODULES for name in import_module(module).__all__]
# Made by a client, not by its user.
MADE_FOR_THEM = {mq9.Consumer, mq9.Receiver, mq9.SyncConsumer, mq9.UnreadWatch}


@pytest.mark.parametrize(("module", "name"), OFFERED)
def test_what_is_offered_is_there_and_described(module, name):
    value = getattr(import_module(module), name)
    assert not name.startswith("_")
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__
        if inspect.isclass(value) and value.__init__.__qualname__.startswith(value.__qualname__):
            assert inspect.signature(value)


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_defines_is_offered_once(name):
    module = import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    defined = {
        one
        for one, value in vars(module).items()
        if getattr(value, "__module__", None) == name and not one.startswith("_")
    }
    assert defined <= set(module.__all__)


@pytest.mark.parametrize("name", LAZY)
def test_a_name_is_loaded_from_where_a_type_checker_sees_it(name):
    module = import_module(name)
    stub = Path(module.__file__).with_suffix(".pyi")
    source = stub if stub.exists() else Path(module.__file__)
    body = ast.parse(source.read_text("utf-8")).body
    if source is not stub:
        [body] = [
            one.body for one in body if isinstance(one, ast.If) and isinstance(one.test, ast.Name)
        ]
    seen = {
        alias.name: one.module
        for one in body
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    assert set(seen) == set(module.__all__) <= set(dir(module))
    for one, origin in seen.items():
        assert getattr(module, one) is getattr(import_module(origin), one)
    with pytest.raises(AttributeError, match=f"^module '{name}' has no attribute 'nothing'$"):
        assert module.nothing


def public_functions(kind):
    """The methods of a class that its user calls, and how it is made."""
    if kind not in MADE_FOR_THEM and not issubclass(kind, (Exception, dict)):
        yield kind.__init__
    for name in dir(kind):
        found = inspect.getattr_static(kind, name)
        found = found.fget if isinstance(found, property) else found
        if not name.startswith("_") and inspect.isfunction(found):
            yield found


def types_in(annotation):
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        yield annotation
    arguments = typing.get_args(annotation)
    for one in [typing.get_origin(annotation), *arguments]:
        for inner in one if isinstance(one, list) else [one]:
            if inner is not None and inner is not annotation:
                yield from types_in(inner)


def hints(of):
    """The annotations of a function or class, those included that only type checkers import."""
    return typing.get_type_hints(
        of, localns={"Any": typing.Any, "Callable": Callable, **vars(models)}
    )


CLASSES = [getattr(mq9, name) for name in mq9.__all__ if inspect.isclass(getattr(mq9, name))]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_type_in_a_public_signature_is_public(kind):
    annotations = [
        annotation
        for function in public_functions(kind)
        if function.__module__.startswith("mq9")
        for annotation in hints(function).values()
    ]
    if dataclasses.is_dataclass(kind):
        annotations += hints(kind).values()
    named = {one for annotation in annotations for one in types_in(annotation)}
    ours = {one for one in named if one.__module__.startswith("mq9.")}
    if kind is mq9.Transport:  # which hands over what the protocol defines
        ours = {one for one in ours if not one.__module__.startswith("mq9.protocol.")}
    offered = [getattr(import_module(module), name) for module, name in OFFERED]
    assert [one for one in ours if one not in offered] == []


def described(text):
    """What a docstring says of each argument or attribute."""
    entries = re.findall(r"^( *)(\w+): (.*(?:\n\1 +.*)*)", inspect.cleandoc(text), re.MULTILINE)
    return {name: re.sub(r"\s+", " ", said) for _, name, said in entries}


EXPLAINED = [
    getattr(import_module(module), name)
    for module, name in OFFERED
    if module in {"mq9", "mq9.testing", "langchain_mq9"}
    if inspect.isclass(getattr(import_module(module), name))
]


def explained_elsewhere(function):
    """Whether its docstring refers to another, or is written by whoever defines the protocol."""
    text = inspect.getdoc(function) or ""
    return not function.__module__.startswith(("mq9", "langchain_mq9")) or re.search(
        r"[Ss]ee ``|[Aa]s ``|[Ff]or the arguments see", text.partition("\nArgs:")[0]
    )


@pytest.mark.parametrize("kind", EXPLAINED, ids=lambda kind: kind.__name__)
def test_every_parameter_of_a_public_method_is_explained(kind):
    silent = {  # of the options, the class that ``options`` names explains each
        f"{function.__qualname__}({name})"
        for function in public_functions(kind)
        if function is not kind.__init__ and not explained_elsewhere(function)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
        if not {name, "options"} & described(inspect.getdoc(function) or "").keys()
    }
    assert silent == set()


@pytest.mark.parametrize("kind", EXPLAINED, ids=lambda kind: kind.__name__)
def test_a_name_ends_in_ms_where_it_means_milliseconds_and_nowhere_else(kind):
    texts = [kind.__doc__, *(one.__doc__ for one in public_functions(kind) if one.__doc__)]
    for text in texts:
        for name, said in described(text).items():
            assert name.endswith("_ms") == ("illisecond" in said), (name, said)


def test_durations_without_a_suffix_are_said_to_be_seconds():
    seconds = {
        name: said
        for kind in EXPLAINED
        for text in [kind.__doc__, *(one.__doc__ for one in public_functions(kind))]
        for name, said in described(text or "").items()
        if re.fullmatch(r"ttl|delay|lease|after|duration|expires_at|.*_(timeout|delay|ttl)", name)
    }
    assert len(seconds) > 10
    for name, said in seconds.items():
        # Where a list goes on after an address, it is no time.
        assert re.search(r"[Ss]econd|address", said), (name, said)
