"""The package list, which pyproject.toml cannot state: ``conf/`` lies outside what it maps to."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(".", include=["astuner_gym*", "astuner_rl*"]),
        *find_packages("envs"),
        "astuner_rl.conf",
    ],
    package_dir={"astuner_envs": "envs/astuner_envs", "astuner_rl.conf": "conf"},
    package_data={
        "": ["py.typed", "*.md", "*.j2", "*.css", "data/**"],
        "astuner_rl.conf": ["**/*.yaml"],
    },
)
