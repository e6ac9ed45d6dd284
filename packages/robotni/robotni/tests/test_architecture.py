"""House rules a diff cannot show: imports go strictly down, each technology has one owner."""

import ast
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

PACKAGE = Path(__file__).parents[1]
ENTRIES = PACKAGE.parent / "robotni_huey"

# From the top down. A module imports only from rows below its own; siblings never meet.
ROWS = (
    {"__main__", "__init__"},
    {"cli"},
    {"doctor"},
    {"wiring", "serving", "stopping", "demo", "cli_jobs", "cli_run", "selftest"},
    {"storm", "audit", "protocol_httptools"},
    {"tickets", "api", "cli_url", "protocol_h11"},
    {"consumer", "routes_queue", "routes_status", "client", "terminal"},
    {"routes_worker", "pages", "metrics", "remote"},
    {"abandoned", "conditional", "openapi", "straight", "threads", "impatience"},
    {"problems", "guard", "calls"},
    {"upkeep", "starter", "jobtickets"},
    {"engine", "runner", "stats"},
    {"orders", "settler", "submissions"},
    {"intake"},
    {"environment", "workers", "interpreters"},
    {"preflight", "header"},
    {"leftovers", "store", "slots"},
    {"listing", "tickettable", "cleanup", "rundir", "workerlock"},
    {"ended"},
    {"condition", "database", "rows"},
    {"changes", "datadir", "schema", "shim.loop", "events", "logs", "body", "census", "witness"},
    {"shim.run", "shim.cold", "shim.warm", "shim.wire"},
    {
        "shim.evidence",
        "shim.tree",
        "shim.codes",
        "shim.inside",
        "shim.renewal",
        "shim.ring",
        "shim.slices",
    },
    {"shim", "shim.shim"},
    {"job", "request", "settings", "minding", "answers", "regular"},
    {"errors"},
)
OWNERS = {
    "sqlite3": {"condition", "database"},
    "subprocess": {"slots", "shim.cold", "starter", "demo", "storm"},
    "signal": {"leftovers", "slots", "shim.cold", "shim.run", "consumer", "demo", "job", "cli_run"},
    "_signal": {"shim.loop", "shim.warm"},
    "anyio": {"threads"},
    "fastapi": {
        *("api", "problems", "straight"),
        *("routes_worker", "routes_queue", "routes_status", "pages"),
    },
    "starlette": {
        *("api", "problems", "straight", "conditional", "abandoned"),
        *("routes_worker", "routes_status", "pages"),
    },
    "uvicorn": {"serving", "protocol_h11", "protocol_httptools"},
    "httptools": {"protocol_httptools"},
    "huey": {"tickets", "consumer"},
    "click": {"cli", "cli_jobs", "cli_run", "cli_url", "demo", "selftest", "terminal"},
    "rich": {"terminal"},
    "httpx": {"calls", "client", "remote"},
    "fcntl": {"datadir"},
    "prometheus_client": {"metrics"},
    "psutil": {"census", "datadir", "guard", "storm"},
    "jsonschema": {"workers"},
}


def modules() -> Dict[str, Path]:
    found = {path.stem: path for path in PACKAGE.glob("*.py")}
    found["workers"] = PACKAGE / "workers" / "__init__.py"
    found.update((f"shim.{path.stem}", path) for path in (PACKAGE / "shim").glob("*.py"))
    found["shim"] = found.pop("shim.__init__")
    return found


def module_of(name: str) -> str:
    """The module of ours that the dotted name of an import means."""
    parts = name.split(".")[1:]
    return next((m for m in (".".join(parts[:2]), parts[0]) if m in modules()), "")


def imports(path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in a file, less those for type checkers only."""
    for node in _live_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield f"robotni.{path.parent.name}.{node.module}"
        elif isinstance(node, ast.ImportFrom) and node.module in ("robotni", "robotni.shim"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _live_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.dump(child.test).find("TYPE_CHECKING") >= 0:
            continue
        yield child
        yield from _live_nodes(child)


def row_of(module: str) -> int:
    return next(number for number, row in enumerate(ROWS) if module in row)


def test_every_module_has_its_row() -> None:
    placed = {name for row in ROWS for name in row}
    assert placed == set(modules())


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_strictly_down(module: str) -> None:
    for name in imports(modules()[module]):
        if name.startswith("robotni."):
            imported = module_of(name)
            if imported:
                assert row_of(imported) > row_of(module), f"{module} imports {imported}"


@pytest.mark.parametrize("technology", sorted(OWNERS))
def test_each_technology_has_its_owners(technology: str) -> None:
    users: Set[str] = {
        module
        for module, path in modules().items()
        if any(name.split(".")[0] == technology for name in imports(path))
    }
    assert users == OWNERS[technology]


def test_the_shim_needs_the_standard_library_only() -> None:
    allowed = set(getattr(sys, "stdlib_module_names", ())) or {
        "__future__", "_signal", "array", "atexit", "ctypes", "errno", "gc", "io", "json", "os",
        "resource", "runpy", "select", "signal", "socket", "stat", "struct", "subprocess", "sys",
        "time",
    }  # fmt: skip
    for module, path in modules().items():
        if module.startswith("shim"):
            others = {name for name in imports(path) if not name.startswith("robotni.shim.")}
            assert {name.split(".")[0] for name in others} <= allowed


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    stdlib = set(getattr(sys, "stdlib_module_names", ())) or set(sys.builtin_module_names)
    names = {name.split(".")[-1] for name in modules()}
    assert not (names - {"__init__", "__main__"}) & stdlib


def test_states_are_spelled_out_in_job_only() -> None:
    # The API's own schema and the command line's sentence for a person may name a state.
    spelled = re.compile(r"[\"'](scheduled|pending|running|completed|failed|cancelled)[\"']")
    allowed = {"job", "cli_jobs", "demo", "openapi", "routes_queue", "routes_status"}
    guilty = {m for m, path in modules().items() if spelled.search(path.read_text())}
    assert guilty <= allowed, guilty - allowed


def test_one_update_of_the_status_in_the_code_base() -> None:
    text = "".join(path.read_text() for path in modules().values())
    assert len(re.findall(r"UPDATE job SET", text)) == 1
    assert not re.search(r"\.update\(status", text)


def test_module_level_instances_live_in_the_entries_only() -> None:
    made: List[str] = []
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                call = ast.unparse(node.value.func) if sys.version_info >= (3, 9) else ""
                if call in ("Settings", "Store", "Engine", "Runner", "FastAPI", "RobotniHuey"):
                    made.append(module)
    assert made == []
    assert "app = build_app()" in (ENTRIES / "main.py").read_text()
    assert "huey = build_huey()" in (ENTRIES / "huey_app.py").read_text()


def test_two_broad_excepts_and_no_more() -> None:
    # A run must always settle; one row of the sweep must not stop the others. The third keeps
    # the watch over the worker alive in the web process. A warm shim lets pass what a script
    # raises, and tells what a module to preload raises: both may be anything. What goes wrong with
    # one of several that are served together is raised again for that one.
    broad = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    }
    together = {"database", "submissions", "threads"}
    assert broad <= {"runner", "upkeep", "starter", "shim.shim", "shim.warm", *together}


def test_the_environment_is_read_in_the_entries_only() -> None:
    readers = {m for m, p in modules().items() if re.search(r"os\.environ|getenv", p.read_text())}
    scripts = {"witness", "shim.warm", "shim.renewal"}  # one is a script, the others become one
    assert readers <= {"wiring", "cli", "cli_url", "demo"} | scripts
