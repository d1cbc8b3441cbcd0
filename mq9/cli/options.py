"""The options of ``mq9 serve``, made of the fields of its settings."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from mq9.server.settings import Settings, option, variable


def command_of_settings(run: Callable[[Settings], None]) -> Callable[..., None]:
    """Return a function for typer that has an option for each setting.

    Options are passed on as they are written: what they must be is checked with the variables and
    the file, by ``Settings``.

    Args:
        run: Called with the settings; its docstring is the help of the command.
    """

    def command(**given: Any) -> None:
        run(Settings(**{name: value for name, value in given.items() if value not in (None, [])}))

    parameters = [_parameter(*one) for one in Settings.model_fields.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__doc__ = run.__doc__
    return command


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _kind(field)
    declared = f"--{option(name)}"
    annotation: Any
    if kind is bool:
        annotation, declared, metavar = bool | None, f"{declared}/--no-{option(name)}", None
    elif get_origin(kind) is tuple:
        annotation, metavar = list[str] | None, field.title
    else:
        annotation = Path | None if kind is Path else str | None
        metavar = field.title or _placeholder(kind)
    told = typer.Option(
        declared, metavar=metavar, show_default=False, help=_help(name, field, kind)
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation, told],
    )


def _kind(field: FieldInfo) -> Any:
    """Return the type of a field's values, without ``None``."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        return next(one for one in get_args(kind) if one is not types.NoneType)
    return kind


def _placeholder(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"<{'|'.join(str(one.value) for one in kind)}>"
    return {int: "<int>", float: "<float>", Path: "<file>"}.get(kind, "<str>")


def _help(name: str, field: FieldInfo, kind: Any) -> str:
    """Return what a setting is, its variable, its default and its range."""
    facts = [f"env var: {variable(name)}"]
    if kind is bool:
        facts.append(f"default: {'' if field.default else 'no-'}{option(name)}")
    elif field.default not in (None, ()):
        default = field.default.value if isinstance(field.default, enum.Enum) else field.default
        facts.append(f"default: {default}")
    least = next((one.ge for one in field.metadata if isinstance(one, Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, Le)), None)
    if least is not None:
        facts.append(f"{least} or more" if most is None else f"{least} to {most}")
    return f"{field.description}  [{'; '.join(facts)}]"
