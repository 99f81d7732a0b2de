#!/usr/bin/env bash
# Makes .venv: everything that `make demo` and `make test` need, pinned and hashed. Does nothing when it is up to date.
#
#   EDGELOOP_TORCH_INDEX   an index (or a folder) of CPU builds of torch and torchvision; they then go in first
#   PYTHON                 the interpreter to use (default: python3.11, python3.12, python3.13 or python3)
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/edgeloop-$(cat pyproject.toml requirements/*.txt deployments/setup.sh | sha256sum | cut -c1-16)-$(printf %s "${EDGELOOP_TORCH_INDEX:-}" | sha256sum | cut -c1-8)
[ -e "$stamp" ] && exit 0

say() { printf 'edgeloop set-up: %s\n' "$*" >&2; }

python=${PYTHON:-}
for candidate in python3.11 python3.12 python3.13 python3; do
  [ -n "$python" ] || ! command -v "$candidate" >/dev/null || python=$candidate
done
[ -n "$python" ] || { say "no python3 found: install Python 3.11, 3.12 or 3.13"; exit 2; }
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
  { say "$python is $("$python" -V): the central part needs Python 3.11 to 3.13; name one with PYTHON=..."; exit 2; }

say "making .venv with $("$python" -V)"
if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian's python3-venv"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    "$python" -m venv --clear .venv
  else
    say "$python cannot make a virtual environment: install the package python3-venv"; exit 2
  fi
fi

.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
install=(.venv/bin/uv pip install --quiet --python .venv/bin/python)
if [ -n "${EDGELOOP_TORCH_INDEX:-}" ]; then
  say "installing torch from EDGELOOP_TORCH_INDEX"
  source=(--index "$EDGELOOP_TORCH_INDEX")
  [ -d "$EDGELOOP_TORCH_INDEX" ] && source=(--find-links "$EDGELOOP_TORCH_INDEX")
  mapfile -t pins < <(grep -oE '^(torch|torchvision)==[0-9.]+' requirements/torch.txt)
  "${install[@]}" "${source[@]}" "${pins[@]}"
  requirements=(-r requirements/dev.txt)
else
  requirements=(-r requirements/torch.txt -r requirements/dev.txt)
fi
say "installing $(cat requirements/dev.txt requirements/torch.txt | grep -cE '^[a-z]') pinned packages (a few GB with torch; once)"
# The files are whole (compiled), so nothing is resolved again: --no-deps keeps torch's CUDA parts out of a CPU set-up.
"${install[@]}" --require-hashes --no-deps "${requirements[@]}"
"${install[@]}" --no-deps --no-build-isolation --editable .

.venv/bin/python - <<'CHECK'
import importlib.metadata as metadata
import sys

wheels = [d.name for d in metadata.distributions() if (d.name or "").lower().startswith("opencv")]
if len(wheels) != 1:
    sys.exit(f"edgeloop set-up: expected exactly one OpenCV, found {wheels}: remove .venv and run it again")
import cv2

cv2.imencode(".jpg", __import__("numpy").zeros((8, 8, 3), "uint8"))
CHECK
rm -f .venv/edgeloop-*
touch "$stamp"
say "done"
