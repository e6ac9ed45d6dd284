"""The layout: imports go one way only, and each technology has the packages that may use it."""

import ast
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest

from robotni.tests.paths import ENTRIES, PACKAGE

FILES = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "tests" not in path.parents]
# A package or module imports only from rows above its own.
ROWS = (
    "errors log",
    "settings shim jobs",
    "system",
    "storage",
    "workers",
    "engine",
    "consumer web client",
    "bootstrap",
    "cli",
    "__init__ __main__",
)
ROW_OF = {name: number for number, row in enumerate(ROWS) for name in row.split()}


def name_of(path: Path) -> str:
    """`storage.store`, `log`; a package has the name of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, also inside functions and for the type checker."""
    package = ".".join(("robotni", *path.relative_to(PACKAGE).parts[:-1]))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module}" if node.level else str(node.module)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_package_imports_only_from_rows_above_its_own(path: Path) -> None:
    package = name_of(path).split(".")[0]
    imported = {name.split(".")[1] for name in imports(path) if name.startswith("robotni.")}
    others = imported - {package, "__version__"}
    assert [name for name in others if ROW_OF.get(name, 99) >= ROW_OF[package]] == []


def test_modules_do_not_import_each_other_in_circles() -> None:
    graphlib = pytest.importorskip("graphlib")  # from Python 3.9 on
    modules = {f"robotni.{name_of(path)}": path for path in FILES}
    graph = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        & (set(modules) - {module})
        for module, path in modules.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


OWNERS = {
    "sqlite3": {"storage"},
    "subprocess": {"consumer", "shim", "web", "cli"},
    "fcntl": {"system"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "h11": {"web"},
    "huey": {"consumer"},
    "click": {"cli"},
    "rich": {"cli"},
    "httpx": {"client"},
    "prometheus_client": {"web"},
    "psutil": {"system", "web"},
    "jsonschema": {"workers"},
}


@pytest.mark.parametrize("technology", sorted(OWNERS))
def test_a_technology_is_used_in_the_packages_that_own_it(technology: str) -> None:
    users = {
        name_of(path).split(".")[0]
        for path in FILES
        if any(name.split(".")[0] == technology for name in imports(path))
    } - {"__init__", "bootstrap"}  # they name a type for their callers
    assert users == OWNERS[technology]


def test_two_modules_import_huey() -> None:
    users = {name_of(p) for p in FILES if any(n.split(".")[0] == "huey" for n in imports(p))}
    assert users == {"consumer.consumer", "consumer.huey_queue"}


def test_the_shim_needs_the_standard_library_only() -> None:
    allowed = set(getattr(sys, "stdlib_module_names", ())) or {
        "__future__", "_signal", "array", "atexit", "ctypes", "errno", "gc", "io", "json",
        "marshal", "os", "resource", "runpy", "select", "signal", "socket", "stat", "struct",
        "subprocess", "sys", "time", "zipimport",
    }  # fmt: skip
    for path in FILES:
        if name_of(path).split(".")[0] == "shim":
            others = {name for name in imports(path) if not name.startswith("robotni.shim.")}
            assert {name.split(".")[0] for name in others} <= allowed


def test_no_module_beside_a_script_run_by_path_hides_one_of_the_standard_library() -> None:
    stdlib = set(getattr(sys, "stdlib_module_names", ())) or set(sys.builtin_module_names)
    names = {p.stem for folder in ("shim", "workers") for p in (PACKAGE / folder).glob("*.py")}
    assert not (names - {"__init__"}) & stdlib


def test_states_are_spelled_out_only_where_they_are_shown() -> None:
    # Besides jobs.states: the schema of the API, and sentences for a person.
    spelled = re.compile(r"[\"'](scheduled|pending|running|completed|failed|cancelled)[\"']")
    allowed = {
        *("jobs.states", "jobs.models", "cli.jobs", "cli.demo"),
        *("web.openapi", "web.routes.queue", "web.routes.status"),
    }
    found = {name_of(path) for path in FILES if spelled.search(path.read_text())}
    assert found <= allowed, found - allowed


def test_one_statement_changes_the_status_of_a_job() -> None:
    text = "".join(path.read_text() for path in FILES)
    assert len(re.findall(r"UPDATE job SET", text)) == 1
    assert not re.search(r"\.update\(status", text)


def test_only_the_entries_create_objects_at_import() -> None:
    made = [
        name_of(path)
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if getattr(node.value.func, "id", "") in ("Settings", "Store", "Engine", "FastAPI")
    ]
    assert made == []
    assert "app = build_app()" in (ENTRIES / "main.py").read_text()
    assert "huey = build_huey()" in (ENTRIES / "huey_app.py").read_text()


# Each has the reason beside it.
BROAD_EXCEPTS: Dict[str, int] = {
    "consumer.executor": 1,
    "consumer.recovery": 1,
    "engine.submit": 1,
    "shim.standby_program": 1,
    "web.autostart": 1,
    "web.dispatch": 1,
}


def test_the_broad_excepts_are_counted() -> None:
    found: Dict[str, int] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = getattr(node.type, "id", "") in ("Exception", "BaseException")
                if node.type is None or broad:
                    found[name_of(path)] = found.get(name_of(path), 0) + 1
    assert found == BROAD_EXCEPTS


# `module: private name`
PRIVATE_PARTS: Set[str] = set()


def test_the_uses_of_private_parts_of_libraries_are_counted() -> None:
    found: Set[str] = set()
    for path in FILES:
        text = path.read_text()
        libraries = {name.split(".")[0] for name in imports(path)} - {"robotni"}
        found |= {f"{name_of(path)}: {name}" for name in libraries if re.match(r"_[a-z]", name)}
        for use in re.findall(r"\b([a-z]\w*(?:\.\w+)*\._[a-z]\w*)", text):
            if use.split(".")[0] in libraries and use != "os._exit":  # which is public
                found.add(f"{name_of(path)}: {use}")
    assert found == PRIVATE_PARTS


def test_the_environment_is_read_in_the_entries_only() -> None:
    readers = {name_of(p) for p in FILES if re.search(r"os\.environ|getenv", p.read_text())}
    scripts = {"workers.add", "workers.fakejob", "shim.standby_program"}
    assert readers <= {"bootstrap", "cli.main", "cli.options", "cli.demo"} | scripts
