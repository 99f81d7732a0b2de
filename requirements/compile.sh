#!/usr/bin/env bash
# Compiles the pinned, hashed requirement files from pyproject.toml (run by `make requirements`, needs a registry).
# torch and its CUDA parts go to a file of their own, so that set-up can take a CPU build in their place.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
options=(--universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet)
upgrade=${UPGRADE:+--upgrade}
gpu='^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)=='

$uv pip compile pyproject.toml --python-version 3.10 "${options[@]}" $upgrade -o requirements/edge.txt
$uv pip compile pyproject.toml --extra central --extra mongod --extra dev --python-version 3.11 "${options[@]}" $upgrade \
  -o requirements/everything.txt
mapfile -t apart < <(grep -oE "$gpu" requirements/everything.txt | sed 's/==//; s/^/--no-emit-package=/' | sort -u)
names=$(grep -E "$gpu" requirements/everything.txt | sed -E 's/ *\\$//')
$uv pip compile pyproject.toml --extra central --extra mongod --extra dev --python-version 3.11 "${options[@]}" \
  -c requirements/everything.txt "${apart[@]}" -o requirements/dev.txt
$uv pip compile pyproject.toml --extra central --extra mongod --python-version 3.11 "${options[@]}" \
  -c requirements/everything.txt "${apart[@]}" -o requirements/central.txt
printf '%s\n' "$names" | $uv pip compile - --python-version 3.11 "${options[@]}" --no-deps \
  -c requirements/everything.txt -o requirements/torch.txt
rm requirements/everything.txt
printf 'uv==%s\n' "$($uv --version | cut -d' ' -f2)" | $uv pip compile - --python-version 3.10 "${options[@]}" -o requirements/uv.txt
# Label Studio wants other packages than we do: edgeloop labelstudio up gives it an environment of its own. Its pins lie
# apart, so that a new version of it does not make everybody's .venv anew.
printf 'label-studio==1.23.2\n' | $uv pip compile - --python-version 3.11 "${options[@]}" -o deployments/labelstudio.txt
