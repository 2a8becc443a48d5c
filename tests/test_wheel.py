"""The wheel: what is in it, and that it works with its runtime dependencies alone."""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from compress import __version__

pytest.importorskip("build")
pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parents[1]
DIST_INFO = f"compress_distill-{__version__}.dist-info"
LARGEST_BYTES = 12_000_000
RUNTIME = {
    "click",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pillow",
    "protobuf",
    "rich",
    "safetensors",
    "torch",
    "torchvision",
}
# Packages that are imported by another name than they are installed by.
DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf"}
# Extra -> what it brings.
EXTRAS = {
    "openvino": {"openvino"},
    "plots": {"matplotlib"},
    "pytest": {"pytest"},
    "tensorrt": {"tensorrt"},
    "tensorrt-rtx": {"tensorrt-rtx"},
}
DEVELOPMENT = (
    "build",
    "hatchling",
    "importlinter",
    "matplotlib",
    "mypy",
    "openvino",
    "pytest",
    "ruff",
    "tensorrt_rtx",
)


def build(kind: str, folder: Path) -> Path:
    """The wheel or sdist of this checkout, made without network."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "compress").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = {f"{DIST_INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    licences = {
        f"{DIST_INFO}/licenses/{name}" for name in ("LICENSE", "compress/data/embedded/LICENSE")
    }
    assert names == package | about | licences
    assert {name.split("/")[0] for name in names} == {"compress", DIST_INFO}
    embedded = {"LICENSE", "README.md", "fashion-mnist-subset.npz", "teacher.safetensors"}
    assert {f"compress/data/embedded/{name}" for name in embedded} <= names
    assert "compress/py.typed" in names
    assert "compress/recipes/found.json" in names
    assert "compress/pipelines/reproduce/experiments/logit-gan/table2.toml" in names


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_BYTES


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())
        scripts = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.split(">=")[0] for line in needed} == RUNTIME
    for extra, packages in EXTRAS.items():
        of_it = [line for line in metadata.get_all("Requires-Dist", []) if f"'{extra}'" in line]
        assert {line.split(">=")[0] for line in of_it} == packages
    assert metadata["Requires-Python"] == "<3.15,>=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "compress = compress.cli:main" in scripts


def test_what_the_package_imports_is_what_it_says_that_it_needs() -> None:
    found: set[str] = set()
    for path in (ROOT / "compress").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    others = found - sys.stdlib_module_names - {"compress"}
    # The exporter of torch imports onnxscript.
    optional = set.union(*EXTRAS.values())
    needed = {DISTRIBUTIONS.get(name, name) for name in others} | {"onnxscript"}
    assert needed - optional == RUNTIME


def test_the_sdist_holds_no_links_and_nothing_of_the_working_tree(
    tmp_path: Path,
) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    tops = {member.name.split("/")[1] for member in members}
    assert {"compress", "tests", "pyproject.toml", "Makefile", "LICENSE"} <= tops
    assert not tops & {"recipes", "export", "profiling", "runs", ".venv"}


# --- An environment with the wheel and its runtime dependencies ----------------------------------


def runtime_distributions() -> Iterator[importlib.metadata.Distribution]:
    """The installed distributions that the package needs, directly or not."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting = [Requirement(name) for name in RUNTIME]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        yield distribution
        for line in distribution.requires or []:
            wanted = Requirement(line)
            extras = ["", *requirement.extras]
            if wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra}) for extra in extras
            ):
                wanted.marker = None
                waiting.append(wanted)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a virtual environment with links to the installed runtime packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    for distribution in runtime_distributions():
        files = distribution.files
        assert files is not None
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link = packages / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    subprocess.run(
        [*command, "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    return python.parent


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs without what this process's environment says about Python."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )


def test_the_environment_has_no_development_packages(environment: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, compress, torch; "
        f"print([n for n in {DEVELOPMENT!r} if u.find_spec(n)]); "
        "print(compress.__file__); print(torch.__version__)"
    )
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, file, _ = done.stdout.splitlines()
    assert found == "[]"
    assert Path(file).is_relative_to(environment.parent)


def test_the_installed_command_answers(environment: Path, tmp_path: Path) -> None:
    for command in ([environment / "compress"], [environment / "python", "-m", "compress"]):
        done = run(*command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: compress")
        assert "distill" in done.stdout


def test_a_tiny_distillation_with_the_runtime_alone(environment: Path, tmp_path: Path) -> None:
    # Enough for a student that is better than chance: one that is not ends with 1.
    training = "--epochs 2 --limit-train 800 --batch-size 32 --lr 0.05 --schedule one-cycle"
    options = f"--student wrn-10-1 --device cpu --dropout 0 {training}".split()
    done = run(environment / "compress", "distill", *options, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["student"]["name"] == "wrn-10-1"
    assert result["student"]["parity"]["top1_agreement"] == 1.0
    assert (tmp_path / "run" / "student.onnx").stat().st_size > 0
