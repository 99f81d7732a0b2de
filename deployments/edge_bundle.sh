#!/usr/bin/env bash
# Makes what a device is installed from: a folder with our wheel, the pinned requirements and, for devices without a
# registry, every wheel they name.
#
#   deployments/edge_bundle.sh OUT [--wheels [--python 3.11] [--platform x86_64-manylinux_2_28]]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1; shift
wheels=no python=3.11 platform=$(uname -m)-manylinux_2_28
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=yes; shift ;;
    --python) python=$2; shift 2 ;;
    --platform) platform=$2; shift 2 ;;
    *) echo "edge_bundle: unknown option $1" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
"$here/.venv/bin/uv" build --quiet --wheel --no-build-isolation --python "$here/.venv/bin/python" --out-dir "$out" "$here"
rm -f "$out/.gitignore"
cp "$here/requirements/edge.txt" "$here/requirements/uv.txt" "$here/deployments/edge_install.sh" "$here/deployments/edgeloop-edge.service" \
  "$here/deployments/FIRST_BOOT.md" "$here/configs/device.yaml" "$out"
if [ $wheels = yes ]; then
  "$here/.venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --python-version "$python" $(for tag in 17 28; do echo "--platform manylinux_2_${tag}_${platform%%-*}"; done) \
    --platform "manylinux2014_${platform%%-*}" --dest "$out/wheels" -r "$here/requirements/edge.txt" -r "$here/requirements/uv.txt"
fi
(cd "$out" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs -d '\n' sha256sum >SHA256SUMS)
echo "$out: $(basename "$out"/edgeloop-*.whl)"
