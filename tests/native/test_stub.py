"""The types that `_native.pyi` promises are the ones that the extension has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import llm_esr
from llm_esr import _native

STUB = ast.parse((Path(llm_esr.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))


def _is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)


def _stub_members(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    members: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            members[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            members[node.target.id] = node
    return members


def _public(names: object) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def _parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    return [a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]


MODULE = _stub_members(STUB.body)
CLASSES = {name: node for name, node in MODULE.items() if isinstance(node, ast.ClassDef)}


def _compare_signature(name: str, node: ast.FunctionDef, found: object, *, skip_self: bool = False) -> list[str]:
    try:
        real = list(inspect.signature(found).parameters)  # type: ignore[arg-type]
    except ValueError:  # no text signature: nothing to compare with
        return []
    promised = _parameters(node)
    drop = {"self", "cls", "$self", "$cls"} if skip_self else set()
    real = [p for p in real if p not in drop]
    promised = [p for p in promised if p not in drop]
    return [] if real == promised else [f"{name}: the stub has {promised}, the module {real}"]


def test_the_stub_names_what_the_module_has_and_nothing_else() -> None:
    assert _public(MODULE) == _public(vars(_native))


def test_functions_take_the_parameters_that_the_stub_names() -> None:
    wrong = []
    for name, node in MODULE.items():
        if isinstance(node, ast.FunctionDef):
            wrong += _compare_signature(name, node, getattr(_native, name))
    assert not wrong


def test_classes_have_the_members_that_the_stub_names_and_no_others() -> None:
    wrong = []
    for name, node in CLASSES.items():
        promised = _public(_stub_members(node.body))
        found = _public(vars(getattr(_native, name)))
        wrong += [f"{name}.{member}: only in the stub" for member in sorted(promised - found)]
        wrong += [f"{name}.{member}: not in the stub" for member in sorted(found - promised)]
    assert not wrong


def test_methods_take_the_parameters_that_the_stub_names() -> None:
    wrong = []
    for name, node in CLASSES.items():
        real = getattr(_native, name)
        for member, body in _stub_members(node.body).items():
            if not isinstance(body, ast.FunctionDef):
                continue
            label = f"{name}.{member}"
            if member in {"__init__", "__new__"}:
                wrong += _compare_signature(label, body, real, skip_self=True)
            elif member.startswith("__"):
                wrong += [] if hasattr(real, member) else [f"{label}: only in the stub"]
            elif _is_property(body):
                method = callable(vars(real)[member])
                wrong += [f"{label}: a property in the stub, a method in the module"] if method else []
            else:
                wrong += _compare_signature(label, body, getattr(real, member), skip_self=True)
    assert not wrong
