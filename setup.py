"""What pyproject.toml cannot say: one file goes to the top of site-packages.

`dualres_mmcv_ext.pth` lets `mmcv._ext` be found where mmcv has no compiled operations (`adapters/mmcv_ext.py`), also
by programs that import mmdet before anything of this package, such as mmdet's `tools/test.py`. It costs nothing at
start: nothing is imported until something asks for `mmcv._ext` and nothing else provides it.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HOOK = "dualres_mmcv_ext.pth"


class BuildWithHook(build_py):
    """Copies the hook beside the packages, in wheels and in editable installs."""

    def run(self) -> None:
        super().run()
        # An editable wheel is zipped from where `install` would put things, not from build_lib.
        target = self.get_finalized_command("install").install_purelib if self.editable_mode else self.build_lib
        Path(target).mkdir(parents=True, exist_ok=True)
        self.copy_file(str(Path("adapters") / HOOK), str(Path(target) / HOOK), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / HOOK)]


setup(cmdclass={"build_py": BuildWithHook})
