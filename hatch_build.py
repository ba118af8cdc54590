"""Puts the native library into wheels: the build hook of hatchling.

The environment variable SENTENC_TARGET names another platform than this machine, as ``make wheels`` does.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeLibraryHook(BuildHookInterface):
    """Compiles the library for a wheel, or next to the sources for an editable installation."""

    def dependencies(self) -> list[str]:
        """Returns the package with zig if no compiler of the machine can compile the library."""
        builder = _builder(self.root)
        target = os.environ.get("SENTENC_TARGET")
        return [] if builder.find_compiler(target, installed_zig=False) else [builder.ZIG_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library and adds it to the wheel, whose tag names the platform but no version of Python."""
        builder = _builder(self.root)
        target = os.environ.get("SENTENC_TARGET")
        package = Path(self.root, "sentenc", "kernels")
        name = builder.library_name(target)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{builder.wheel_platform(target)}"
        if version == "editable":
            builder.compile_library(package / name, target=target)
            return
        self._folder = tempfile.mkdtemp()
        library = builder.compile_library(Path(self._folder, name), target=target)
        build_data["force_include"][str(library)] = f"sentenc/kernels/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the temporary folder of the library."""
        if version != "editable":
            shutil.rmtree(self._folder)


def _builder(root: str) -> ModuleType:
    """Imports the module that compiles, without its package, whose dependencies are not installed yet."""
    path = Path(root, "sentenc", "kernels", "csrc", "build.py")
    spec = importlib.util.spec_from_file_location("sentenc_csrc_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
