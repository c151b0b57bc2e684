"""Names to objects: a file's name is its registration, and `name(arg=value)` passes arguments.

No list is edited to add a method: a new file in a method package is found by its name.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from types import ModuleType, SimpleNamespace

Literal = bool | int | float | str | tuple | list | None


def parse(spec: str) -> tuple[str, tuple[Literal, ...], dict[str, Literal]]:
    """Returns name, positional and keyword arguments of a call-string such as `block(4, w=1)`.

    Arguments are Python literals, read without evaluating code; a bare name is a name alone.

    Raises:
      ValueError: if `spec` is neither a name nor a call with literal arguments.
    """
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, (), {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError
        args = tuple(ast.literal_eval(a) for a in call.args)
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if None in kwargs:  # f(**x)
            raise ValueError
    except (SyntaxError, ValueError):
        raise ValueError(
            f"can't read {spec!r}: write a name, or a name with literal arguments "
            f'such as "{name}(2, power=3)"'
        ) from None
    return name.strip(), args, kwargs


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a wrong `name` of a `kind`: the near ones first, then all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
    return ValueError(f"unknown {kind} {name!r}.{hint} Known: {shown}")


@functools.cache
def names(package: str) -> dict[str, str]:
    """Returns {method name: full module name} for the public modules under `package`.

    A trailing underscore, for names that are Python keywords, is not part of the method's name.
    """
    root = importlib.import_module(package)
    found = {}
    for info in pkgutil.walk_packages(root.__path__, package + "."):
        name = info.name.rpartition(".")[2].rstrip("_")
        if not info.ispkg and not name.startswith("_"):
            found[name] = info.name
    return found


def module(package: str, kind: str, name: str) -> ModuleType:
    """Returns the module of method `name` under `package`.

    Raises:
      ValueError: if there is none, with the near names.
    """
    found = names(package)
    if name not in found:
        raise unknown(kind, name, found)
    return importlib.import_module(found[name])


@dataclasses.dataclass(frozen=True)
class Method:
    """A method chosen by the user: the module (or object) that defines it, and its options.

    Attributes:
      name: the name to show.
      definition: whatever has the functions of the method's kind.
      options: keyword arguments given with the name; each function gets those it declares.
    """

    name: str
    definition: object
    options: dict[str, object]

    def has(self, function: str) -> bool:
        """Returns whether the method defines `function`."""
        return hasattr(self.definition, function)

    def __call__(self, function: str, *args: object, **kwargs: object) -> object:
        """Calls the method's `function` with the options that it declares."""
        target = getattr(self.definition, function)
        declared = inspect.signature(target).parameters
        return target(*args, **kwargs, **{k: v for k, v in self.options.items() if k in declared})


def method(package: str, kind: str, spec: object, main: str) -> Method:
    """Returns the method that `spec` names: a name, a call-string, or an object of that shape.

    Args:
      package: where the modules of this kind live, such as "tfprune.criteria".
      kind: what to call it in an error.
      spec: `"block"`, `"block(4, 1)"`, an object with the function `main`, or that function.
      main: the function that every method of the kind defines. Its keyword-only parameters are
        the options; those given by position are taken in that order.

    Raises:
      TypeError: for an object of another shape.
      ValueError: for a wrong name or option.
    """
    if not isinstance(spec, str):
        if not hasattr(spec, main) and callable(spec):
            spec = SimpleNamespace(**{main: spec}, __name__=getattr(spec, "__name__", kind))
        if not callable(getattr(spec, main, None)):
            raise TypeError(f"a {kind} is a name or has a function {main}(...), not {spec!r}")
        return Method(getattr(spec, "__name__", type(spec).__name__), spec, {})
    name, args, kwargs = parse(spec)
    definition = module(package, kind, name)
    declared = [
        p.name
        for p in inspect.signature(getattr(definition, main)).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]
    options = dict(zip(declared, args, strict=False)) | kwargs
    if len(args) > len(declared) or not options.keys() <= set(declared):
        raise ValueError(
            f"{kind} {spec!r}: its options are {', '.join(declared) or 'none'}, in this order"
        )
    return Method(spec, definition, options)
