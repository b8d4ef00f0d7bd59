"""Imports point down: the layers of the package, checked on the source with `ast`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors", "cases", "intervals"},
    {"settings", "models", "prompts", "parsing", "matching", "safety"},
    {"rewards", "data", "engines"},
    {"answers"},
    {"evaluation", "training"},
    {"doctor"},
    {"cli", "ui"},
    {"__main__"},
]
# Within the second layer a few modules stand on others; the rest of the siblings do not know each other.
SIBLINGS = {
    ("prompts", "parsing"),
    ("settings", "models"),
    ("matching", "parsing"),
    ("safety", "parsing"),
}
WEIGHTS = {"train", "medgrpo/engines/transformers.py", "medgrpo/engines/weights.py"}
HEAVY = {
    "torch": WEIGHTS,
    "transformers": WEIGHTS,
    "trl": {"train"},
    "peft": WEIGHTS,
    "gradio": {"medgrpo/ui", "app.py"},
}


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def sources() -> list[Path]:
    return sorted(
        p for p in [ROOT / "app.py", *(ROOT / "medgrpo").rglob("*.py"), *(ROOT / "train").rglob("*.py")] if p.exists()
    )


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "medgrpo")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "medgrpo").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_an_import_points_down(path: Path) -> None:
    parts = path.relative_to(ROOT / "medgrpo").with_suffix("").parts
    own = parts[0]
    if own == "__init__":
        return
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] in {"train", "app", "tests"}:
            pytest.fail(f"{path} imports {name}, which stands above the package")
        if pieces[0] != "medgrpo" or len(pieces) < 2 or pieces[1] == own or pieces[1].startswith("__"):
            continue
        target = pieces[1]
        assert level(target) < level(own) or (own, target) in SIBLINGS, f"{own} imports {target}, which is not below it"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_stay_in_their_leaves(path: Path) -> None:
    where = str(path.relative_to(ROOT))
    for name in imports(path):
        leaves = HEAVY.get(name.split(".")[0])
        if leaves is not None:
            assert where.startswith(tuple(leaves)), f"{where} imports {name}"


def test_the_package_and_the_page_load_without_torch() -> None:
    code = (
        "import sys, medgrpo, medgrpo.cli, medgrpo.rewards, medgrpo.data, medgrpo.engines, app; "
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_code_stays_within_its_budget() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    assert {str(path): n for path, n in lengths.items() if n > 400} == {}
    assert sum(n for path, n in lengths.items() if path.relative_to(ROOT).parts[0] == "medgrpo") < 22_000


def test_functions_stay_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    }
    assert long == {}


def test_every_browser_test_is_where_make_test_runs_them_one_after_the_other() -> None:
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark." + "browser" in path.read_text()]
    assert {path.parent for path in marked} == {ROOT / "tests" / "browser"}
    assert len(marked) == len(list((ROOT / "tests" / "browser").glob("test_*.py")))
