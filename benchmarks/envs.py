"""Benchmark set-up: Python environments of contenders that need others than this package's.

One for each list in ``benchmarks/requirements``, made when it is first needed in
``.venv-bench`` and again when its list has changed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".venv-bench"
REQUIREMENTS = Path(__file__).parent / "requirements"

DONE = ".done"
"""Holds what the environment was made of, so that one that was broken off is made again."""


class EnvError(RuntimeError):
    """An environment could not be made."""


async def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made if need be.

    Args:
        name: Of its list, without ``.txt``.

    Raises:
        EnvError: pip failed; the text has its last lines.
    """
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        # Two benchmarks of one checkout must not make it at once.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        return await _made(name)


async def _made(name: str) -> Path:
    wanted = REQUIREMENTS / f"{name}.txt"
    made_of = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    env = FOLDER / name
    python = env / "bin" / "python"
    done = env / DONE
    if done.exists() and done.read_text() == made_of:
        return python
    if env.exists():
        shutil.rmtree(env)
    # Some distributions have split venv's pip off: this environment's own one installs.
    await _run(sys.executable, "-m", "venv", "--without-pip", str(env))
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python))
    await _run(sys.executable, *pip, "install", "--requirement", str(wanted))
    done.write_text(made_of)
    return python


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        tail = " | ".join(output.decode(errors="replace").strip().splitlines()[-5:])
        raise EnvError(f"{' '.join(command[1:4])} exited with {process.returncode}: {tail}")
