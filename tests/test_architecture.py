"""The shape of the code: which room may import which, how long a function may be, what may not be written."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# From top to bottom: a module may import from its own room and from those below.
ROOMS = (
    ("__main__", "cli"),
    ("networks",),  # makes the tables that cases name; nothing below asks for it
    ("pipeline",),
    ("sweep",),
    ("refine",),
    ("preview",),
    ("expect",),
    ("case",),
    ("present",),
    ("analyse",),
    ("solve",),
    ("discretise",),
    ("model",),
    ("errors", "version"),
)
LEVELS = {name: level for level, names in enumerate(ROOMS) for name in names}

LAZY_MODULES = {"fpsolve", "fpsolve.cli", "fpsolve.pipeline"}  # may import inside functions: a fast start
OPTIONAL_PARTS = {"dask", "distributed", "torch"}  # may be absent, so any module imports them where they are used

LONGEST_FUNCTION = 40  # lines without the docstring: what one screen shows
LONG_FUNCTIONS: dict[str, str] = {}  # "fpsolve.module:function" -> why it is better in one piece

HEAVY_PACKAGES = {"numba", "sympy", "matplotlib", "scipy"}


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted((TOP / "fpsolve").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), path.name) for name, path in PATHS.items()}

every_module = pytest.mark.parametrize("module", TREES)


def imported_from(node: ast.ImportFrom, module: str) -> list[str]:
    """Full names behind `from base import a, b`: the module base.a where there is one, else base."""
    base = node.module or ""
    if node.level:
        package = module.split(".") if PATHS[module].name == "__init__.py" else module.split(".")[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
    return [full if (full := f"{base}.{alias.name}") in TREES else base for alias in node.names]


def imports(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything imported anywhere in the tree, for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in imported_from(node, module))


def own_imports(module: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in imports(TREES[module], module) if name.split(".")[0] == "fpsolve"]


def room(module: str) -> str:
    """The name that places a module: `model` for fpsolve.model.grid, empty for fpsolve itself."""
    return module.split(".")[1] if "." in module else ""


def definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """(name, node) of every function and class, nested ones included; the name is Python's `__qualname__`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield prefix + child.name, child
            inside = ".<locals>." if isinstance(child, FUNCTIONS) else "."
            yield from definitions(child, prefix + child.name + inside)
        else:
            yield from definitions(child, prefix)


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    return span(function) - (span(docstring) if docstring else 0)


def span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def function_lengths() -> dict[str, int]:
    return {
        f"{module}:{name}": lines_of_code(node)
        for module, tree in TREES.items()
        for name, node in definitions(tree)
        if isinstance(node, FUNCTIONS)
    }


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that the module itself gives a name."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((node.lineno, alias.asname) for alias in aliases if alias.asname)


def texts() -> Iterator[tuple[Path, str]]:
    """(path, text) of the files that make up the repository."""
    paths = [path for path in TOP.iterdir() if path.suffix in {".md", ".toml"}]
    for folder in ("fpsolve", "tests", "cases", "scripts", ".ci"):
        paths += [path for path in (TOP / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in paths:
        yield path.relative_to(TOP), path.read_text(encoding="utf-8", errors="replace")


def is_public(name: str) -> bool:
    """Whether a user can reach this `__qualname__`: nothing private and no function's inside on the way."""
    return not any(part.startswith(("_", "<")) for part in name.split("."))


@every_module
def test_every_module_has_a_room(module):
    assert module == "fpsolve" or room(module) in LEVELS, f"{module} is in no room: give it a place in ROOMS"


@every_module
def test_imports_point_down(module):
    if module == "fpsolve":
        return  # resolves the public names lazily, from every room
    upward = [
        f"line {line}: {name}"
        for line, name in own_imports(module)
        if LEVELS.get(room(name), -1) < LEVELS.get(room(module), -1)  # -1: fpsolve itself, above all rooms
    ]
    assert not upward, f"{module} imports from above: {upward}"


def test_no_import_cycle():
    graph = {module: {name for _, name in own_imports(module)} for module in TREES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


@every_module
def test_no_import_hides_in_a_function(module):
    if module in LAZY_MODULES:
        return
    hidden = {
        f"line {line}: {imported}"
        for _, node in definitions(TREES[module])
        if isinstance(node, FUNCTIONS)
        for line, imported in imports(node, module)
        if imported.split(".")[0] not in OPTIONAL_PARTS
    }
    assert not hidden, f"{module} imports inside a function: {sorted(hidden)}"


def test_functions_are_short():
    too_long = {name: lines for name, lines in function_lengths().items() if lines > LONGEST_FUNCTION}
    unexplained = {name: lines for name, lines in too_long.items() if name not in LONG_FUNCTIONS}
    assert not unexplained, f"longer than {LONGEST_FUNCTION} lines: {unexplained}"
    assert set(LONG_FUNCTIONS) <= set(too_long), f"no longer long: {set(LONG_FUNCTIONS) - set(too_long)}"


@every_module
def test_names_say_what_they_mean(module):
    assert module.split(".")[-1] not in {"util", "utils"}, f"{module}: name it after what it holds"
    empty_ending = re.compile(r"_(?:[123]d|new|arr)$", re.IGNORECASE)
    names = [(1, module), *named(TREES[module])]
    found = [f"line {line}: {name}" for line, name in names if empty_ending.search(name)]
    assert not found, f"{module} has names with an empty ending: {found}"


@every_module
def test_only_the_command_line_prints_and_exits(module):
    if module == "fpsolve.cli":
        return
    talk = {"print", "click.echo", "sys.stdout", "sys.exit", "os._exit", "SystemExit"}
    nodes = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Name | ast.Attribute)]
    found = [f"line {node.lineno}: {name}" for node in nodes if (name := ast.unparse(node)) in talk]
    assert not found, f"{module} prints or exits: {found}"


def test_the_project_stands_alone():
    outside = "/".join(["..", "shared"])
    found = [str(path) for path, text in texts() if outside in text]
    assert not found, f"these mention a folder outside the repository: {found}"


@every_module
def test_user_text_is_never_evaluated(module):
    rejected = re.compile(r"\b(?:eval|sympify|parse_expr)\(")
    lines = PATHS[module].read_text(encoding="utf-8").splitlines()
    found = [f"line {number}: {line.strip()}" for number, line in enumerate(lines, start=1) if rejected.search(line)]
    assert not found, f"{module} evaluates text: {found}"


@every_module
def test_public_names_are_documented(module):
    silent = [
        f"line {node.lineno}: {name}"
        for name, node in definitions(TREES[module])
        if is_public(name)
        and not ast.get_docstring(node)
        and not any(ast.unparse(mark).endswith(("overload", ".setter")) for mark in node.decorator_list)
    ]
    assert not silent, f"{module} has public names without a docstring: {silent}"


@pytest.mark.skipif("fpsolve.cli" not in TREES, reason="no command line yet")
def test_help_starts_without_the_heavy_packages():
    script = (
        "import sys; sys.argv = ['fpsolve', '--help']\n"
        "from fpsolve.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "Usage" in run.stdout
    loaded = HEAVY_PACKAGES & set(run.stderr.split())
    assert not loaded, f"fpsolve --help imports {sorted(loaded)}"
