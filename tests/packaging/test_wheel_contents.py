"""The wheel holds every module and data file, under names that collide with nobody's folders."""

import configparser
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "astuner_gym": "astuner_gym",
    "astuner_rl": "astuner_rl",
    "astuner_rl/conf": "conf",
    "astuner_envs": "envs/astuner_envs",
}


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def text(wheel: Path, ending: str) -> str:
    archive = zipfile.ZipFile(wheel)
    (name,) = (each for each in archive.namelist() if each.endswith(ending))
    return archive.read(name).decode()


def files_of(folder: str) -> set[str]:
    found = (ROOT / folder).rglob("*")
    return {
        path.relative_to(ROOT / folder).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(("package", "folder"), PACKAGES.items())
def test_every_file_of_a_package_is_in_the_wheel(
    names: list[str], package: str, folder: str
) -> None:
    assert {f"{package}/{name}" for name in files_of(folder)} - set(names) == set()


def test_nothing_else_is_in_the_wheel(names: list[str]) -> None:
    top = {PurePosixPath(name).parts[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "astuner_gym",
        "astuner_rl",
        "astuner_envs",
    }


def test_the_licence_goes_with_it(wheel: Path) -> None:
    assert text(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_command_and_environments_are_announced(wheel: Path) -> None:
    announced = configparser.ConfigParser()
    announced.read_string(text(wheel, "entry_points.txt"))
    assert announced["console_scripts"]["astuner"] == "astuner_rl.cli:main"
    assert announced["astuner.envs"]["gsm8k"] == "astuner_envs.gsm8k:Gsm8kConfig"


def test_the_base_install_needs_no_torch(wheel: Path) -> None:
    lines = text(wheel, "METADATA").splitlines()
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist: " in line]
    base = [each for each in needs if "extra ==" not in each]
    assert sorted(re.match(r"[\w-]+", each)[0] for each in base) == [
        "agentscope",
        "gymnasium",
        "pyyaml",
    ]
