"""Puts the compiled kernels into a wheel: kernels/native/levels.py; all else is in setup.cfg.

Where no compiler works the wheel holds their sources alone, and they are built at first use.
"""

import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

KERNELS = Path("fusion", "kernels")  # a link in a checkout, a folder in an sdist
levels = SimpleNamespace(**runpy.run_path(str(KERNELS / "native" / "levels.py")))


class Native(Distribution):
    def has_ext_modules(self) -> bool:
        """Whether there are levels and a compiler for them: then the wheel is one platform's."""
        try:
            return bool(levels.here() and levels.compiler())
        except RuntimeError:
            return False


class Build(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode or not self.distribution.has_ext_modules():
            return
        try:
            levels.compile_levels(KERNELS, Path(self.build_lib, KERNELS, "native", "built"))
        except subprocess.SubprocessError as error:
            said = getattr(error, "stderr", "")
            self.warn(f"the kernels are left to be built at first use: {error}\n{said}")


class Wheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, since ctypes loads the kernels; but one processor."""
        platform = super().get_tag()[2].replace("universal2", levels.machine())
        return "py3", "none", platform


setup(distclass=Native, cmdclass={"build_py": Build, "bdist_wheel": Wheel})
