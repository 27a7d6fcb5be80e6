"""Prints the path of a Python that has what requirements.txt names, in an environment that the first call makes outside the
checkout. Fails with one line of why it cannot. Called by tests/system/oracles.rs."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
UNFINISHED = "oracles-unfinished-"
STEP_SECONDS_MAX = 600


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "chat4all")
    wanted = f"{sys.version} {sys.executable}\n".encode() + REQUIREMENTS.read_bytes()
    place = cache / f"oracles-{hashlib.sha256(wanted).hexdigest()[:16]}"
    if not place.exists():
        make(place)
    print(place / "bin" / "python")


def make(place):
    """Beside its place, and renamed when it is whole: so it is there or not, whoever else makes it or is killed meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.parent))
    try:
        step(sys.executable, "-m", "venv", beside)
        step(beside / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "-r", REQUIREMENTS)
        beside.rename(place)
    except OSError:
        # Somebody was quicker, and theirs is as good.
        if not place.exists():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sweep(cache):
    """Removes what killed calls left behind long ago."""
    for left in cache.glob(UNFINISHED + "*"):
        if time.time() - left.stat().st_mtime > 3 * STEP_SECONDS_MAX:
            shutil.rmtree(left, ignore_errors=True)


def step(*command):
    done = subprocess.run(command, timeout=STEP_SECONDS_MAX, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).split()
        raise RuntimeError(f"{command[2]} failed: {' '.join(said[-60:])}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{type(error).__name__}: {error}")
