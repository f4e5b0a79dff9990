"""Prints what Horovod's build has to know of torch, as settings of CMake."""

import sys

printed, sys.stdout = sys.stdout, sys.stderr  # torch prints warnings
import torch  # noqa: E402
from torch.utils import cpp_extension  # noqa: E402

cuda = torch.version.cuda is not None and cpp_extension.CUDA_HOME is not None
rocm = torch.version.hip is not None and cpp_extension.ROCM_HOME is not None
extension = (cpp_extension.CUDAExtension if cuda or rocm else cpp_extension.CppExtension)("", [])
new_abi = torch.compiled_with_cxx11_abi()
flags = [*(cpp_extension.COMMON_HIPCC_FLAGS if rocm else ()), f"-D_GLIBCXX_USE_CXX11_ABI={int(new_abi)}"]
for name, value in {
    "Pytorch_VERSION": torch.__version__,
    "Pytorch_CUDA": str(cuda).upper(),
    "Pytorch_ROCM": str(rocm).upper(),
    "Pytorch_CXX11": str(new_abi).upper(),
    "Pytorch_INCLUDE_DIRS": ";".join(extension.include_dirs),
    "Pytorch_LIBRARY_DIRS": ";".join(extension.library_dirs),
    "Pytorch_COMPILE_FLAGS": " ".join(flags),
    "pytorch_names": ";".join(extension.libraries),
}.items():
    print(f'set({name} "{value}")', file=printed)
