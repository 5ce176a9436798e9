"""Build script. Metadata lives in pyproject.toml; only the layout is said here."""

from setuptools import find_packages, setup

KERNELS = ["hpcstream.kernels"] + [f"hpcstream.kernels.{name}" for name in find_packages("kernels")]
PACKAGES = find_packages(
    include=["hpcstream", "hpcstream.*"], exclude=["hpcstream.kernels", "hpcstream.kernels.*"]
)

setup(
    packages=PACKAGES + KERNELS,
    package_dir={"hpcstream.kernels": "kernels"},
)
