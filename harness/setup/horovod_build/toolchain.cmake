# CMake reads a toolchain file before the project, and what it names inside of it: Horovod's source stays as it is.
set(CMAKE_PROJECT_horovod_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/project.cmake")
