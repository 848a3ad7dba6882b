"""Find the pip-installed ``tritonserver`` and lay out a backend directory for it.

The ``nvidia-pytriton`` wheel carries NVIDIA's real server. It pins an older NumPy, so it lives in a virtual
environment of its own; nothing in that environment is changed.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privseg.errors import ServerUnavailableError, StorageError, UsageError
from privseg.serving.signature import VERIFY_VARIABLE

__all__ = ["BACKEND", "TritonInstallation", "find_installation"]

VENV_VARIABLE: Final = "PRIVSEG_TRITON_VENV"
BACKEND: Final = Path(__file__).parent / "onnx_backend"
_DEBIAN_LIBRARIES: Final = Path("/usr/lib") / f"{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}"


@dataclass(frozen=True)
class TritonInstallation:
    """Where the parts of a Triton installation lie.

    Attributes:
        venv: Virtual environment that holds nvidia-pytriton, onnxruntime and openvino.
        server: The ``tritonserver`` binary.
        python_backend: Directory with ``libtriton_python.so``.
        stub: ``triton_python_backend_stub`` for the environment's Python.
        libraries: What ``LD_LIBRARY_PATH`` needs.
    """

    venv: Path
    server: Path
    python_backend: Path
    stub: Path
    libraries: tuple[Path, ...]

    @property
    def python(self) -> Path:
        """The environment's Python, the one the stub embeds."""
        return self.venv / "bin" / "python"

    def environment(self, home: Path) -> dict[str, str]:
        """Return the server's whole environment.

        The stub embeds Python and finds its packages through the first ``python3`` on ``PATH``, which is the
        environment's own. Nothing of the caller's Python settings gets in; the key that versions are checked with does.
        """
        named = {VERIFY_VARIABLE: os.environ[VERIFY_VARIABLE]} if VERIFY_VARIABLE in os.environ else {}
        return named | {
            "PATH": os.pathsep.join([str(self.venv / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(home),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, self.libraries)),
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        }

    def assemble_backends(self, directory: Path) -> Path:
        """Lay out the backend directory: Triton's Python runtime, and ours under the name ``onnxruntime``.

        Triton refuses a backend library that is a symbolic link out of its directory, so files are copied.

        Raises:
            StorageError: The directory cannot be written.
        """
        python, onnxruntime = directory / "python", directory / "onnxruntime"
        try:
            python.mkdir(parents=True, exist_ok=True)
            onnxruntime.mkdir(exist_ok=True)
            _copy(self.python_backend / "libtriton_python.so", python)
            _copy(self.python_backend / "triton_python_backend_utils.py", python)
            _copy(self.stub, python)
            for part in BACKEND.glob("*.py"):
                _copy(part, onnxruntime)
        except OSError as error:
            raise StorageError.from_os_error(directory, error) from error
        return directory


def find_installation() -> TritonInstallation:
    """Find Triton: ``PRIVSEG_TRITON_VENV``, else ``.venv-triton`` beside this environment or in the current folder.

    Raises:
        UsageError: ``PRIVSEG_TRITON_VENV`` names a place without Triton.
        ServerUnavailableError: No installation, or one that lacks a part.
    """
    named = os.environ.get(VENV_VARIABLE)
    if named:
        found = _inspect(Path(named).absolute())
        if found is None:
            raise UsageError(VENV_VARIABLE, f"names {named}, which holds no tritonserver", "correct or unset it")
        return found
    places = [Path(sys.prefix).parent / ".venv-triton", Path.cwd() / ".venv-triton"]
    for place in places:
        found = _inspect(place)
        if found is not None:
            return found
    raise ServerUnavailableError("tritonserver", f"is not installed in {places[0]}", "run `make setup`")


def _inspect(venv: Path) -> TritonInstallation | None:
    for packages in sorted(venv.glob("lib/python3.*/site-packages")):
        root = packages / "pytriton" / "tritonserver"
        version = packages.parent.name.removeprefix("python")
        server = root / "bin" / "tritonserver"
        if not server.is_file():
            continue
        stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
        for part in (stub, root / "backends" / "python" / "libtriton_python.so", packages / "onnxruntime"):
            if not part.exists():
                raise ServerUnavailableError(part, "is missing from the Triton environment", "run `make setup`")
        libraries = (packages / "nvidia_pytriton.libs", _libpython_directory(venv, version))
        return TritonInstallation(venv, server, root / "backends" / "python", stub, libraries)
    return None


def _libpython_directory(venv: Path, version: str) -> Path:
    """Return the directory of the ``libpython`` that the stub links to."""
    name = f"libpython{version}.so.1.0"
    for directory in _library_directories(venv):
        if (directory / name).exists():
            return directory
    raise ServerUnavailableError(name, "is not on this machine", f"run `apt-get install libpython{version}`")


def _library_directories(venv: Path) -> Iterator[Path]:
    for line in (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home":
            yield Path(value.strip()).parent / "lib"
    yield Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    yield _DEBIAN_LIBRARIES


def _copy(source: Path, folder: Path) -> None:
    """Copy by replacement: a running server may have the old file mapped."""
    temporary = folder / f".{source.name}.{os.getpid()}"
    shutil.copy2(source, temporary)
    temporary.replace(folder / source.name)
