"""Build script. Metadata lives in pyproject.toml; only the layout is said here."""

import sys

from setuptools import find_packages, setup

KERNELS = ["hpcstream.kernels"] + [f"hpcstream.kernels.{name}" for name in find_packages("kernels")]
PACKAGES = find_packages(
    include=["hpcstream", "hpcstream.*"], exclude=["hpcstream.kernels", "hpcstream.kernels.*"]
)
# An editable install takes the link hpcstream/kernels instead: a plain layout, for which setuptools
# puts this folder on sys.path. For any other it writes a finder that comes after sys.path, and a
# clone named hpcstream beside somebody's script would be taken for the package.
LAYOUT = {"": "."} if "editable_wheel" in sys.argv else {"hpcstream.kernels": "kernels"}

setup(packages=PACKAGES + KERNELS, package_dir=LAYOUT)
