#!/usr/bin/env bash
# Fetches onnxruntime's CUDA provider, and the CUDA libraries that it needs, into one folder for the runners (DRYAPI_ORT_DIR).
# A step of its own: installing the npm packages never downloads them. node_modules is left as it is. Works in a checkout and in an
# installed dryapi-worker. What is fetched is pinned in cuda-requirements.txt beside this script, with hashes that pip checks.
#
#   scripts/fetch-cuda.sh [--into DIR] [--from PATH] [--provider-only]
#     --into DIR        where to; default: .dryapi/cuda in the package's folder, which the worker looks into by itself
#     --from PATH       take the provider from a folder (a GPU release's lib/), a .whl, a .nupkg or a .tgz instead of through pip
#     --provider-only   CUDA and cuDNN are installed already: fetch no libraries
#
# Exit codes: 0 done, 1 failed (one sentence says why; DIR is as it was before), 2 wrong arguments.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
root=$(dirname "$here")
pins=$here/cuda-requirements.txt
own=$root/.dryapi/cuda
into=$own
from=
libraries=yes

say() { echo "fetch-cuda: $*" >&2; }
fail() { say "$*"; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --into) into=${2:?--into needs a folder}; shift 2 ;;
    --from) from=${2:?--from needs a path}; shift 2 ;;
    --provider-only) libraries=no; shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) say "unknown argument $1; see --help"; exit 2 ;;
  esac
done

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "onnxruntime's CUDA provider exists for Linux x86-64 only, this is $(uname -s) $(uname -m)"
# As Node looks for it: in an installed package it may lie beside this one or further up.
above=$root
until [ -f "$above/node_modules/onnxruntime-node/package.json" ]; do
  [ "$above" != / ] || fail "onnxruntime-node is not installed: no node_modules from $root upwards has it; run npm ci (in a checkout) or npm install first"
  above=$(dirname "$above")
done
ort=$above/node_modules/onnxruntime-node
version=$(sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$ort/package.json" | head -n 1)
runtime=$ort/bin/napi-v6/linux/x64/libonnxruntime.so.1
[ -f "$runtime" ] || fail "$runtime is missing: install onnxruntime-node $version again"

{ mkdir -p "$(dirname "$into")" && stage=$(mktemp -d "$into.XXXXXX.partial"); } 2>/dev/null ||
  fail "$(dirname "$into") cannot be written by $(id -un): run this as the user who installed the package, or give --into DIR and start the worker with DRYAPI_ORT_DIR=DIR"
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/out" "$stage/unpacked"

# The lines of one section of the pins, as a requirements file of its own.
pinned() {
  [ -f "$pins" ] || fail "$pins is missing: the installation is incomplete, install it again"
  awk -v head="[$1]" '/^# \[/ { inside = $2 == head } inside' "$pins" >"$stage/$1.txt"
  grep -q '==' "$stage/$1.txt" || fail "$pins pins nothing under [$1]: the installation is incomplete, install it again"
}
need_python() { python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is needed $1: install python3-pip, or $2"; }

# 1. The provider: two libraries of exactly the npm package's version.
if [ -z "$from" ]; then
  need_python "to fetch the provider" "give a downloaded file with --from"
  say "fetching onnxruntime-gpu $version (about 250 MB)"
  pinned provider
  grep -qF "onnxruntime-gpu==$version " "$stage/provider.txt" ||
    fail "$pins pins $(grep -o 'onnxruntime-gpu==[^ ]*' "$stage/provider.txt"), onnxruntime-node in $ort is $version, and the two must be equal: change the pin and its hash, or give a downloaded file of $version with --from"
  # Any Python's wheel will do, the libraries in it are the same: the pinned hash is that of this one.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp --python-version 3.12 \
    --platform manylinux_2_28_x86_64 --dest "$stage" --require-hashes -r "$stage/provider.txt" ||
    fail "pip could not fetch onnxruntime-gpu $version with the pinned hash: its own words are above; check the network or pip's index settings, or give a downloaded file with --from"
  from=$(find "$stage" -maxdepth 1 -name '*.whl')
fi
case $from in
  *.whl | *.nupkg | *.zip)
    if command -v unzip >/dev/null; then unzip -q "$from" -d "$stage/unpacked"
    else need_python "to unpack $from" "install unzip"; python3 -m zipfile -e "$from" "$stage/unpacked"; fi || fail "$from cannot be unpacked" ;;
  *.tgz | *.tar.gz) tar -xzf "$from" -C "$stage/unpacked" || fail "$from cannot be unpacked" ;;
  *) [ -d "$from" ] || fail "--from $from is neither a folder nor a .whl, .nupkg or .tgz file"
     rm -rf "$stage/unpacked"; ln -s "$(cd "$from" && pwd)" "$stage/unpacked" ;;
esac
for name in libonnxruntime_providers_shared.so libonnxruntime_providers_cuda.so; do
  found=$(find -L "$stage/unpacked" -maxdepth 5 -name "$name" ! -path '*/linux-arm64/*' -print -quit 2>/dev/null || true)
  [ -n "$found" ] || fail "$from holds no $name: it is not a GPU build of onnxruntime for Linux x86-64"
  cp -L "$found" "$stage/out/$name"
done
provider=$stage/out/libonnxruntime_providers_cuda.so
# The provider carries its version as a text; a provider of another version crashes the process that loads it.
grep -qaF "$version" "$provider" || fail "the provider in $from is not of version $version, which onnxruntime-node has and which it must equal"
# The runtime that loads it must lie beside it: the package's own, so that nothing else changes.
cp -L "$runtime" "$stage/out/libonnxruntime.so.1"
printf '%s\n' "$version" >"$stage/out/ORT_VERSION"

# 2. The CUDA libraries of the major version that the provider was built with.
major=$(LC_ALL=C ldd "$provider" | sed -n 's/.*libcublasLt\.so\.\([0-9]*\).*/\1/p' | head -n 1)
case $major in
  12 | 13) ;;
  *) fail "the provider needs libcublasLt.so.${major:-?}: only CUDA 12 and 13 builds are known" ;;
esac
say "the provider is built for CUDA $major"
if [ "$libraries" = yes ]; then
  need_python "to fetch the CUDA libraries" "install CUDA $major and cuDNN 9 yourself and use --provider-only"
  pinned "cuda-$major"
  say "fetching the CUDA $major libraries and cuDNN 9 (about 2 GB)"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --only-binary=:all: \
    --target "$stage/out/pip" --require-hashes -r "$stage/cuda-$major.txt" || fail "pip could not fetch what $pins pins for CUDA $major, with its hashes: its own words are above; or install CUDA $major and cuDNN 9 yourself and use --provider-only"
  # Links keep each file once; relative, so that the folder can be moved or copied into an image.
  (cd "$stage/out" && find pip -name 'lib*.so*' -type f -exec ln -sf {} . \;)
fi

# 3. What the loader makes of it. The driver's own library comes with the driver, perhaps only where this will run.
missing=$(LC_ALL=C LD_LIBRARY_PATH="$stage/out:${DRYAPI_CUDA_LIBS:-}:${LD_LIBRARY_PATH:-}" ldd "$provider" | awk '/=> not found/ { print $1 }' | grep -v '^libonnxruntime_' || true)
if [ -n "$missing" ] && [ "$missing" != libcuda.so.1 ]; then
  [ "$libraries" = no ] || fail "still not found after fetching: $(echo $missing)"
  say "not found here: $(echo $missing); install CUDA $major and cuDNN 9, or set DRYAPI_CUDA_LIBS to their folders"
elif [ "$missing" = libcuda.so.1 ]; then
  say "libcuda.so.1 is not on this machine: it comes with the NVIDIA driver (or the container's NVIDIA runtime)"
fi

rm -rf "$into.old"
[ ! -e "$into" ] || mv "$into" "$into.old"
mv "$stage/out" "$into"
rm -rf "$into.old"
say "done: onnxruntime $version with CUDA $major is in $into"
[ "$into" = "$own" ] || say "start the worker with DRYAPI_ORT_DIR=$into"
