# The CUDA backend as the target ml_cuda, where nvcc is found. The runtime is linked in; a machine
# without a driver loads the same binary. One file by hand, with its registers and spills:
#   nvcc -std=c++20 -O3 -arch=sm_90 --expt-relaxed-constexpr -Xptxas -v -Inative \
#     -c native/ops/topk.cu -o /dev/null

if(NOT ML_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    if(ML_CUDA STREQUAL "ON")
      message(FATAL_ERROR "ML_CUDA is ON, but no nvcc was found: put it in PATH, or name it in the "
      "environment variable CUDACXX.")
    endif()
    message(STATUS "No nvcc: the binary will have no CUDA backend")
  endif()
endif()
if(ML_CUDA STREQUAL "OFF" OR NOT CMAKE_CUDA_COMPILER)
  return()
endif()

# Must be set before the language is enabled. By default one architecture, whose PTX the driver
# compiles for later GPUs. A release runs on all from sm_75 on and stays below 8 MB: it has code for
# sm_75, for sm_80, which sm_86 and sm_89 run as it is, and for sm_90; and the PTX that the latter
# two are assembled from, which the driver compiles for newer GPUs, such as sm_100 and sm_120, when
# a kernel is first used, and keeps.
if(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  if(ML_CUDA_ALL)
    set(CMAKE_CUDA_ARCHITECTURES OFF)
    set(release sm_80 sm_90)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 80)
  endif()
endif()
enable_language(CUDA)
# CMake 3.25 does not know that nvcc has C++20
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit REQUIRED)

if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
  message(FATAL_ERROR "CUDA must be 12.4 or newer, got ${CMAKE_CUDA_COMPILER_VERSION}. "
    "Use -DML_CUDA=OFF for a binary without CUDA.")
endif()
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
  list(FILTER CMAKE_CUDA_ARCHITECTURES EXCLUDE REGEX "^1[0-9][0-9]")
endif()
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.9)
  set(compression --compress-mode=size)  # a seventh of the default's size
else()
  set(compression -Xfatbin=-compress-all)
endif()

add_library(ml_cuda OBJECT ${ML_CUDA_SOURCES})
target_include_directories(ml_cuda PRIVATE native ${CUDAToolkit_INCLUDE_DIRS})
set_target_properties(ml_cuda PROPERTIES
  CUDA_SEPARABLE_COMPILATION OFF CUDA_RUNTIME_LIBRARY Static POSITION_INDEPENDENT_CODE ON
  CUDA_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_compile_options(ml_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;${compression};-Xcompiler=-Wall,-Wno-psabi>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-O2>)
if(release)
  list(JOIN release "," code)
  set(gencode -gencode=arch=compute_75,code=sm_75
    -gencode=arch=compute_80,code=[${code},compute_80])
  target_compile_options(ml_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${gencode}>")
endif()
# Bitwise identical on every device, so no multiply-add in it is fused.
set_source_files_properties(native/ops/multinomial.cu native/ops/random_fill.cu native/ops/rope.cu
  PROPERTIES COMPILE_OPTIONS -fmad=false)
