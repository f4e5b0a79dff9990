# Horovod asks for C++14, headers of torch for C++20.
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CXX17_STANDARD_COMPILE_OPTION "-std=c++20")

# Relative to the installed extension (site-packages/horovod/torch), so that the wheel finds Open MPI in whichever
# environment it is installed.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../../../..;$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib;$ORIGIN/../../nvidia/cu13/lib")

# Most of the compiler's time would go into headers, once a file, and into debug information: files are compiled eight at
# a time, without it, and with fewer headers.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG")
set(CMAKE_UNITY_BUILD ON)
set(CMAKE_PROJECT_gloo_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/gloo.cmake")
set(CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}/modules")
include_directories(BEFORE "${CMAKE_CURRENT_LIST_DIR}/include")

# What includes torch takes longest. It comes last in Horovod's list, and the other cores would wait for it. Not with
# CUDA, whose files have not been tried in other groups of eight.
function(compile_torch_first)
  if(HAVE_CUDA)
    return()
  endif()
  get_target_property(sources pytorch SOURCES)
  list(REVERSE sources)
  set_target_properties(pytorch PROPERTIES SOURCES "${sources}")
endfunction()
cmake_language(DEFER CALL compile_torch_first)
