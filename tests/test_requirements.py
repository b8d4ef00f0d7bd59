"""The tested versions: every line a pin, every set resolvable, every installed package that is outside them named."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medgrpo import doctor
from medgrpo.settings import Settings

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.txt", "requirements-train.txt", "requirements-gpu.txt")


def compiled(file: Path, python: str = "3.12") -> subprocess.CompletedProcess[str]:
    """What `uv pip compile` says to a requirements file, for 64-bit Linux; skips without a network."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header"]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode and "Failed to fetch" in done.stderr:
        pytest.skip("the package index cannot be reached from here")
    return done


def names(lines: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9_.-]+)(?:\[.*?\])?==", lines, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_is_a_pin(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?==[0-9][0-9a-z.]*", line)] == []


@pytest.mark.slow
@pytest.mark.parametrize("python", [pytest.param("3.11", marks=pytest.mark.long), "3.12"])
@pytest.mark.parametrize("name", [*LOCKS, "requirements-dev.txt"])
def test_a_lock_resolves(name: str, python: str) -> None:
    done = compiled(ROOT / name, python)
    assert done.returncode == 0, done.stderr
    assert names((ROOT / name).read_text()) <= names(done.stdout)


@pytest.mark.slow
def test_a_lock_that_contradicts_itself_does_not_resolve(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("gradio==6.31.0\npillow==13.0.0\n")
    assert "unsatisfiable" in compiled(tmp_path / "bad.txt").stderr


def packages_found(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> doctor.Finding:
    """What the doctor says of packages where these versions are installed and no others."""

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return next(each for each in doctor.examine(Settings()) if each.what == "packages")


def test_doctor_names_every_package_outside_the_tested_set(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {name: pin for name, (pin, _) in doctor.pins().items()}
    versions |= {"torch": versions["torch"] + "+cu130", "gradio": "6.1.0", "vllm": "0.33.0"}
    del versions["pillow"], versions["unsloth"]

    finding = packages_found(monkeypatch, versions)
    assert not finding.good
    assert re.findall(r"(\S+) \S+ \(tested", finding.says) == ["gradio", "pillow", "vllm"]
    assert "pillow missing" in finding.says
    assert finding.says.endswith("`pip install -r requirements-gpu.txt`.")


def test_doctor_is_content_with_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = {name: pin for name, (pin, file) in doctor.pins().items() if file == "requirements.txt"}

    finding = packages_found(monkeypatch, pins)
    assert finding.good
    assert "gradio 6.31.0" in finding.says
    assert "torch" not in finding.says


@pytest.mark.parametrize(
    ("settings", "engine", "model"),
    [
        (Settings(), "llamacpp", "SmolLM2-135M-Instruct"),
        (Settings(engine="vllm", model="qwen2.5-3b"), "requirements-gpu.txt", "Qwen/Qwen2.5-3B-Instruct, from the Hub"),
        (Settings(endpoint="http://there/v1", model="big"), "http://there/v1", "big, as the endpoint calls it"),
    ],
)
def test_doctor_says_which_engine_answers_with_which_model(settings: Settings, engine: str, model: str) -> None:
    found = {each.what: each for each in doctor.examine(settings)}
    if settings.engine == "vllm" and found["engine"].good:
        pytest.skip("vLLM is installed here")
    assert engine in found["engine"].says
    assert model in found["model"].says
