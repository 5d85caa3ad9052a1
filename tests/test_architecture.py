"""Who may import whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import salt

ROOT = Path(salt.__file__).parent
FILES = {".".join(file.relative_to(ROOT.parent).with_suffix("").parts): file for file in ROOT.rglob("*.py")}


def imports(file: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def read_levels() -> dict[str, int]:
    """The rooms in CONTRIBUTING.md with their numbers; a room imports from itself and from smaller numbers."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {6}(\d+) +((?:[\w.]+(?:\.py|/) )+) *\S", text, re.MULTILINE)
    pairs = [
        (name.removesuffix(".py").removesuffix("/"), int(level)) for level, names in lines for name in names.split()
    ]
    assert len(dict(pairs)) == len(pairs), "a room is listed twice"
    return dict(pairs)


HEIGHT = read_levels()


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_a_room_imports_from_lower_ones_alone():
    rooms = {room_of(name) for name in FILES if name != "salt.__init__"}
    assert rooms == set(HEIGHT)
    for name, file in FILES.items():
        for used in imports(file) if name != "salt.__init__" else ():  # imports the highest one, when it is called
            if used.startswith("salt.") and used != "salt.__version__" and room_of(used) != room_of(name):
                assert HEIGHT[room_of(used)] < HEIGHT[room_of(name)], f"{name} imports {used}"


def test_models_losses_and_metrics_stand_alone():
    for name, file in FILES.items():
        for folder in ("salt.models", "salt.losses", "salt.scoring.metrics", "salt.data.rle"):
            if name.startswith(folder):
                outside = {
                    i for i in imports(file) if i.startswith("salt") and not (i == "salt" or i.startswith(folder))
                }
                assert not outside, f"{name} imports {outside}"


def test_hydra_stays_where_configs_are_composed_and_built():
    users = {
        name for name, file in FILES.items() if any(i.split(".")[0] in ("hydra", "omegaconf") for i in imports(file))
    }
    assert {room_of(name) for name in users} == {"train", "cli", "overrides", "components"}


def test_the_unet_receives_its_parts():
    assert not {"salt.models.attention", "salt.models.center"} & imports(FILES["salt.models.unet"])


def test_command_and_config_do_not_import_torch():
    modules = "salt.train, salt.config, salt.components, salt.commands.submit, salt.runs.rundir"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_and_functions_are_short():
    for file in (ROOT.parent / "scripts").rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, file.name
    for name, file in FILES.items():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{name}.{node.name}"


def reads_or_writes_text(call: ast.Call) -> bool:
    """Whether a call opens a file as text, reads or writes one, or reads what another program prints."""
    of_object = isinstance(call.func, ast.Attribute)
    name = call.func.attr if of_object else getattr(call.func, "id", "")
    if name == "open":
        owner = getattr(call.func.value, "id", "") if of_object else ""
        words = [getattr(part, "value", None) for part in (*call.args, *(keyword.value for keyword in call.keywords))]
        in_bytes = any(isinstance(word, str) and "b" in word and set(word) <= set("rwxab+") for word in words)
        return owner not in ("os", "segyio", "Image") and not in_bytes
    reads_output = {"text", "universal_newlines"} & {keyword.arg for keyword in call.keywords}
    return (of_object and name in ("read_text", "write_text", "FileHandler", "TextIOWrapper")) or bool(reads_output)


def test_text_is_read_and_written_as_utf_8_whatever_the_locale():
    # ruff's PLW1514 sees only calls whose object it knows to be a path
    for name, file in FILES.items():
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and reads_or_writes_text(call):
                assert "encoding" in {keyword.arg for keyword in call.keywords}, f"{name}, line {call.lineno}"


def defined_names(tree: ast.Module) -> set[str]:
    """The functions, classes and constants of a file."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [
        node.targets if isinstance(node, ast.Assign) else [node.target]
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    return found | {target.id for targets in assigned for target in targets if isinstance(target, ast.Name)}


def test_a_name_that_is_imported_bare_is_defined_once():
    trees = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}
    imported = {
        name.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("salt")
        for name in node.names
    } - {"main"}
    for name in imported:
        places = [module for module, tree in trees.items() if name in defined_names(tree)]
        assert len(places) <= 1, f"{name} is defined in {' and '.join(places)}"


def test_a_function_has_at_most_six_parameters():
    for file in FILES.values():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                public = file.name == "__init__.py"  # whose callers name most arguments
                arguments = [*node.args.posonlyargs, *node.args.args, *([] if public else node.args.kwonlyargs)]
                names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
                assert len(names) <= 6, f"{file}: {node.name} has the parameters {', '.join(names)}"
