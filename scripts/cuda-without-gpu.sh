#!/usr/bin/env bash
# Brings what `scripts/verify cuda-options` loads onnxruntime's CUDA and TensorRT providers with, into .cache/cuda-options; a GPU is not needed.
#   ort/     onnxruntime-node's library, the providers and the CUDA libraries, as `dryapi fetch-cuda` puts them (2.3 GB)
#   driver/  the driver's library from Debian's libcuda1, where the machine has none. It is NVIDIA's own and finds no device
#   nvinfer/ stand-ins for TensorRT's two libraries, which no package index here has: the functions that the provider imports, which end the
#            process when they are called. onnxruntime's own code that reads and reports the options calls none of them
# Does nothing where they are. Nothing is installed on the machine. Prints one line.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
into="$root/.cache/cuda-options"
fail() { echo "cuda options: $*" >&2; exit 1; }
if [ -e "$into/.built" ]; then
  echo "cuda options: present"
  exit 0
fi
mkdir -p "$into"
free_gib=$(($(df --output=avail -k "$into" | tail -n 1) / 1024 / 1024))
[ "$free_gib" -ge 26 ] || fail "$free_gib GiB are free at $into, expected 26: 6 for the libraries, and 20 that stay free"
for program in apt-get dpkg gcc; do
  command -v "$program" >/dev/null || fail "$program is missing; install it"
done
work=$(mktemp -d)
log="$work/log"
trap 'status=$?; [ $status -eq 0 ] || { tail -n 5 "$log" >&2; echo "cuda options: not brought, its last words are above" >&2; }; rm -rf "$work"' EXIT
chmod 755 "$work"
{
  [ -e "$into/ort/ORT_VERSION" ] || "$root/scripts/fetch-cuda.sh" --into "$into/ort"

  rm -rf "$into/driver" "$into/nvinfer"
  mkdir -p "$into/driver" "$into/nvinfer" "$work/apt/lists/partial" "$work/apt/archives/partial"
  if ! ldconfig -p | grep -q 'libcuda\.so\.1 '; then
    # The mirror that this machine takes its own packages from.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
    printf "deb $mirror %s non-free\\n" "$(. /etc/os-release && echo "$VERSION_CODENAME")" >"$work/apt/list"
    apt=(apt-get -o "Dir::Etc::SourceList=$work/apt/list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/apt/lists"
      -o "Dir::Cache::Archives=$work/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$work/apt" && "${apt[@]}" download libcuda1)
    dpkg -x "$work"/apt/libcuda1_*.deb "$work/driver"
    find "$work/driver" -name 'libcuda.so*' -exec cp -P {} "$into/driver" \;
  fi

  provider="$into/ort/libonnxruntime_providers_tensorrt.so"
  if [ ! -e "$provider" ]; then
    sed -n '/^# \[provider\]/,/^# \[cuda/p' "$root/scripts/cuda-requirements.txt" >"$work/provider.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp --python-version 3.12 \
      --platform manylinux_2_28_x86_64 --dest "$work" --require-hashes -r "$work/provider.txt"
    python3 -m zipfile -e "$work"/onnxruntime_gpu-*.whl "$work/wheel"
    cp "$work/wheel/onnxruntime/capi/libonnxruntime_providers_tensorrt.so" "$provider"
  fi
  {
    echo '#include <stdlib.h>'
    echo 'int getInferLibVersion(void) { return 101500; }'
    echo 'void *getPluginRegistry(void) { return 0; }'
    for name in createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL \
      createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL; do echo "void $name(void) { abort(); }"; done
  } >"$work/nvinfer.c"
  for name in libnvinfer.so.10 libnvonnxparser.so.10; do
    gcc -shared -fPIC "-Wl,-soname,$name" -o "$into/nvinfer/$name" "$work/nvinfer.c"
  done
} >"$log" 2>&1
touch "$into/.built"
echo "cuda options: in .cache/cuda-options"
