# Gloo's files are compiled eight at a time, but this one: it has names of its own that others have too.
cmake_language(DEFER CALL set_source_files_properties "${PROJECT_SOURCE_DIR}/gloo/allreduce.cc"
  TARGET_DIRECTORY gloo PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
