// Horovod uses tensors and their Python bindings, and asks for all of torch: that takes a compiler 10 s longer.
#pragma once
#include <torch/types.h>
#include <torch/csrc/utils/pybind.h>
