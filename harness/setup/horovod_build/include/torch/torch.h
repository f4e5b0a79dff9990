// See extension.h.
#pragma once
#include <torch/types.h>
