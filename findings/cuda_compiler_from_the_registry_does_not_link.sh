#!/usr/bin/env bash
# The CUDA compiler that comes as Python packages compiles and does not link: it looks for its libraries in a folder that
# none of the packages has, and a link to its folder does not help.
#
# NVIDIA publishes nvcc and all that it needs as packages of the version that torch's wheels are built with, and nvcc is
# found and runs. But it links against <its tree>/lib64, and the packages put their libraries into lib, so that the first
# program of CMake's compiler test fails with "cannot find -lcudadevrt", beside that very file. Its tree is the folder
# above the one it is started from, after links are followed: a tree of one's own with lib64 whose bin is a link leads
# back to the packages. With a real bin that holds links to the files, it links. The shared runtime then lacks the name
# that the linker asks for (libcudart.so; there is libcudart.so.13).
#
# Versions: nvidia-cuda-nvcc, nvidia-nvvm, nvidia-cuda-crt 13.0.88, nvidia-cuda-cccl 13.0.85, nvidia-cuda-runtime 13.0.96
# (x86_64, Linux; no GPU is needed)
# Seen:
#     the packages' own tree: cannot find -lcudadevrt
#     libraries in lib: libcudadevrt.a libcudart_static.a
#     own tree with lib64, bin is a link: cannot find -lcudadevrt
#     own tree with lib64, bin holds links: linked
#     the same, shared runtime: cannot find -lcudart
#     the same, and a link libcudart.so: linked
#
# It needs a C++ compiler that CUDA 13.0 knows (GCC up to 15).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
  nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96
cat >"$folder/program.cu" <<'CUDA'
__global__ void kernel() {}
int main() {
  kernel<<<1, 1>>>();
  return 0;
}
CUDA
packages=$(echo "$folder"/env/lib/python3*/site-packages/nvidia/cu13)

# What linking a program in a tree comes to: "linked", or the first thing that the linker lacks.
link() {
  local tree=$1
  shift
  if "$tree/bin/nvcc" -arch=sm_90 "$@" "$folder/program.cu" -o "$folder/program" >"$folder/log" 2>&1; then
    echo linked
  else
    grep -o -m1 'cannot find -l[a-z]*' "$folder/log" || { cat "$folder/log" >&2; echo failed otherwise; }
  fi
}

{
  echo "the packages' own tree: $(link "$packages")"
  echo "libraries in lib: $(cd "$packages/lib" && ls libcudadevrt.a libcudart_static.a | xargs)"
  own=$folder/own
  mkdir "$own"
  ln -s "$packages/include" "$packages/nvvm" "$packages/bin" "$own"
  mkdir "$own/lib64"
  ln -s "$packages"/lib/lib* "$own/lib64"
  echo "own tree with lib64, bin is a link: $(link "$own")"
  rm "$own/bin"
  mkdir "$own/bin"
  ln -s "$packages"/bin/* "$own/bin"
  echo "own tree with lib64, bin holds links: $(link "$own")"
  echo "the same, shared runtime: $(link "$own" -cudart shared)"
  ln -s libcudart.so.13 "$own/lib64/libcudart.so"
  echo "the same, and a link libcudart.so: $(link "$own" -cudart shared)"
} | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
the packages' own tree: cannot find -lcudadevrt
libraries in lib: libcudadevrt.a libcudart_static.a
own tree with lib64, bin is a link: cannot find -lcudadevrt
own tree with lib64, bin holds links: linked
the same, shared runtime: cannot find -lcudart
the same, and a link libcudart.so: linked
EXPECTED
echo "still so"
