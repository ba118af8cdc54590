"""The build of the native library: the choice of a compiler, its flags, the file it writes and the wheel around it."""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sentenc.kernels import library

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "sentenc" / "kernels" / "csrc"
if not CSRC.exists():
    pytest.skip("only of interest in the repository", allow_module_level=True)
LINUX_ARM = "aarch64-linux-gnu.2.17"


def module(path: Path):
    spec = importlib.util.spec_from_file_location(f"tested_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


build = module(CSRC / "build.py")
posix_only = pytest.mark.skipif(os.name != "posix", reason="the compilers of these tests are shell scripts")
needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="no C compiler")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Returns a function that adds a command to an otherwise empty PATH and returns the file of its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)

    def add(name: str, *, works: bool = True) -> Path:
        file, arguments = folder / name, tmp_path / f"{name}.arguments"
        write = 'for a; do [ "$previous" = -o ] && : > "$a"; previous=$a; done' if works else "exit 1"
        file.write_text(f'#!/bin/sh\necho "$@" >> "{arguments}"\n{write}\nexit 0\n')
        file.chmod(0o755)
        return arguments

    return add


@posix_only
def test_the_system_compiler_comes_first(commands, monkeypatch):
    commands("zig")
    commands("clang")
    commands("cc")
    assert build.find_compiler() == ["cc"]
    commands("special")
    monkeypatch.setenv("CC", "special -m64")
    assert build.find_compiler() == ["special", "-m64"]


@posix_only
def test_a_compiler_that_cannot_compile_is_passed_over(commands, monkeypatch):
    commands("cc", works=False)
    commands("gcc")
    assert build.find_compiler() == ["gcc"]
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build.find_compiler() == ["gcc"]


@posix_only
def test_a_compiler_must_know_the_flags_of_all_instruction_sets(commands, monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    arguments = commands("cc")
    assert build.find_compiler() == ["cc"]
    assert {"-mavx2", "-mavx512vbmi", "-mavx512vnni"} <= set(arguments.read_text().split())


@posix_only
def test_zig_is_used_without_a_compiler_and_for_other_targets(commands, monkeypatch):
    assert build.find_compiler() is None
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: name == "ziglang")
    assert build.find_compiler() == [sys.executable, "-m", "ziglang", "cc"]
    assert build.find_compiler(installed_zig=False) is None
    commands("cc")
    assert build.find_compiler() == ["cc"]
    assert build.find_compiler(LINUX_ARM) == [sys.executable, "-m", "ziglang", "cc"]


@posix_only
def test_without_a_compiler_the_error_names_the_remedy(commands, tmp_path):
    with pytest.raises(build.CompileError, match=re.escape(f'pip install "{build.ZIG_REQUIREMENT}"')):
        build.compile_library(tmp_path / "a.so")


@posix_only
def test_each_instruction_set_is_compiled_with_its_flags(commands, tmp_path):
    arguments = commands("zig")
    build.compile_library(tmp_path / "a.so", target="x86_64-linux-gnu.2.17")
    lines = arguments.read_text().splitlines()
    by_set = {name: line for line in lines for name in re.findall(r"-DSENTENC_ISA=(\w+)", line)}
    assert by_set.keys() == {"baseline", "avx2", "avx512"}
    assert "-mavx" not in by_set["baseline"]
    assert "-mavx2" in by_set["avx2"]
    assert "-mavx512" not in by_set["avx2"]
    assert "-mavx512vnni" in by_set["avx512"]
    # zig compiles for the CPU of this machine by default.
    assert all("-target x86_64-linux-gnu.2.17 -mcpu=baseline" in line for line in lines)
    others = [line for line in lines if "-c " in line and "kernels.c" not in line]
    assert len(others) == len(list(CSRC.glob("*.c"))) - 1
    assert not any("-mavx" in line for line in others)


@posix_only
def test_arm_has_one_instruction_set(commands, tmp_path):
    arguments = commands("zig")
    build.compile_library(tmp_path / "a.so", target=LINUX_ARM)
    assert re.findall(r"-DSENTENC_ISA=(\w+)", arguments.read_text()) == ["baseline"]
    assert "-mavx" not in arguments.read_text()


@posix_only
def test_sanitizers_apply_to_compiling_and_linking(commands, tmp_path):
    arguments = commands("cc")
    build.compile_library(tmp_path / "a.so", compiler=["cc"], sanitize="address,undefined")
    lines = arguments.read_text().splitlines()
    assert all("-fsanitize=address,undefined" in line for line in lines)
    assert not any("-O3" in line for line in lines)


def test_every_target_has_a_wheel_and_a_name():
    assert build.wheel_platform(LINUX_ARM) == "manylinux_2_17_aarch64"
    assert build.library_name("x86_64-windows-gnu") == "_native.dll"
    assert build.library_name("aarch64-macos.11.0") == "_native.so"
    with pytest.raises(build.CompileError, match=r"'mips-linux-gnu'.*x86_64-linux-musl"):
        build.wheel_platform("mips-linux-gnu")


@pytest.mark.parametrize(
    ("system", "machine", "target"),
    [
        ("Darwin", "arm64", "aarch64-macos.11.0"),
        ("Windows", "AMD64", "x86_64-windows-gnu"),
        ("Linux", "riscv64", "riscv64-linux-gnu"),
    ],
)
def test_this_machine_is_named_as_zig_names_it(monkeypatch, system, machine, target):
    monkeypatch.setattr(build.platform, "system", lambda: system)
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    monkeypatch.setattr(build.sysconfig, "get_config_var", lambda name: "linux-gnu")
    assert build.native_target() == target


def test_a_wheel_of_the_system_compiler_on_linux_promises_nothing_to_other_machines(monkeypatch):
    monkeypatch.setattr(build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-x86_64")
    assert build.wheel_platform() == "linux_x86_64"


@needs_compiler
def test_the_library_is_compiled_and_replaced_as_a_whole(tmp_path):
    output = build.compile_library(tmp_path / "new" / build.library_name(), flags=["-O0", "-Werror"])
    assert ctypes.CDLL(str(output)).sentenc_abi_version() == library.library.sentenc_abi_version()
    before = output.read_bytes()
    with pytest.raises(build.CompileError, match="no_such_header"):
        build.compile_library(output, flags=["-include", "no_such_header.h"])
    assert output.read_bytes() == before
    assert list(output.parent.iterdir()) == [output]


def test_python_and_the_header_declare_the_same_functions():
    header = (CSRC / "sentenc.h").read_text("utf-8")
    declared = re.findall(r"^SENTENC_EXPORT \w+ \*?(sentenc_\w+)\(", header, re.M)
    assert sorted(declared) == sorted(library._SIGNATURES)


@pytest.fixture
def hook(tmp_path):
    """The build hook over a copy of the sources."""
    pytest.importorskip("hatchling")
    root = tmp_path / "root"
    shutil.copytree(CSRC, root / "sentenc" / "kernels" / "csrc")
    return module(ROOT / "hatch_build.py").NativeLibraryHook(str(root), {}, None, None, "", "wheel")


@posix_only
def test_zig_is_a_build_requirement_only_without_a_compiler(hook, commands, monkeypatch):
    assert hook.dependencies() == [build.ZIG_REQUIREMENT]
    commands("cc")
    assert hook.dependencies() == []
    monkeypatch.setenv("SENTENC_TARGET", LINUX_ARM)
    assert hook.dependencies() == [build.ZIG_REQUIREMENT]


@posix_only
def test_a_wheel_contains_the_library_and_names_its_platform(hook, commands, monkeypatch):
    monkeypatch.setenv("SENTENC_TARGET", LINUX_ARM)
    commands("zig")
    data = {"force_include": {}}
    hook.initialize("standard", data)
    assert (data["tag"], data["pure_python"]) == ("py3-none-manylinux_2_17_aarch64", False)
    ((source, place),) = data["force_include"].items()
    assert place == "sentenc/kernels/_native.so"
    assert Path(source).exists()
    hook.finalize("standard", data, "")
    assert not Path(source).exists()
    assert not Path(hook.root, place).exists()


@posix_only
def test_an_editable_installation_compiles_in_place(hook, commands):
    commands("cc")
    data = {"force_include": {}}
    hook.initialize("editable", data)
    hook.finalize("editable", data, "")
    assert Path(hook.root, "sentenc", "kernels", build.library_name()).exists()
    assert data["force_include"] == {}


@needs_compiler
def test_exported_names_and_libraries_of_a_library_are_checked(tmp_path):
    pytest.importorskip("lief")
    wheels = module(ROOT / "tools" / "wheels.py")
    target = build.native_target()
    library = build.compile_library(tmp_path / build.library_name(), flags=["-O0"])
    # The system's compiler may use symbols that are newer than the portable wheels promise.
    assert [fault for fault in wheels.library_faults(library, target) if "GLIBC_" not in fault] == []
    export = "__declspec(dllexport)" if os.name == "nt" else ""
    source = tmp_path / "stray.c"
    source.write_text(
        f"{export} int sentenc_encode(void) {{ return 0; }}\n{export} int stray(void) {{ return 0; }}\n"
    )
    stray = tmp_path / f"stray{library.suffix}"
    subprocess.run([*build.find_compiler(), "-shared", "-fPIC", str(source), "-o", str(stray)], check=True)
    text = "; ".join(wheels.library_faults(stray, target))
    assert "does not export sentenc_abi_version" in text
    assert "exports stray" in text
    assert "sentenc_encode" not in text
