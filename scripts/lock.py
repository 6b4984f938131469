"""Resolve pyproject.toml into constraints.txt, with hashes, for every platform: `make lock`.

torch and the CUDA packages that its CUDA build asks for are left out: the Makefile installs torch by version, because a CPU build
and a CUDA build of one version have different hashes. Needs `uv` on the path (pip install uv).
"""

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r"^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
HEADER = """\
# Every version with its hashes: the one lock that make, CI and the image use. Made by `make lock`; do not edit.
# torch==2.13.0 is installed first, by version (see the Makefile).
"""


def main() -> None:
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--upgrade", "--quiet"]
    compiled = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True)  # noqa: S603
    entries = re.split(r"\n(?=[a-z0-9])", compiled.stdout.strip())
    kept = [entry for entry in entries if not LEFT_OUT.match(entry)]
    (CHECKOUT / "constraints.txt").write_text(HEADER + "\n".join(kept) + "\n")
    sys.stdout.write(f"{len(kept)} packages locked\n")


if __name__ == "__main__":
    main()
