# ml_glibc_floor(TARGET): the target runs on glibc 2.28, whatever newer glibc it is linked on.
#
# glibc 2.34 moved libpthread, libdl and librt into libc and gave their functions new versions; the
# functions did not change. So the target is linked first against stand-ins of those libraries,
# which define the names with the versions that every glibc has; at run time the system's libraries
# of these names answer. native/compat/glibc.cpp has the rest. The package tests read the versions
# back from the binary: a name that is missing here fails them.

include(CheckCXXSymbolExists)

# Names whose version on x86-64 is 2.2.5, or the one after @; on arm64 it is that of its first
# glibc, 2.17.
set(ML_FLOOR_pthread
  pthread_attr_destroy pthread_attr_getstack pthread_attr_setstacksize pthread_condattr_setpshared
  pthread_create pthread_detach pthread_getattr_np pthread_getspecific pthread_join
  pthread_key_create pthread_key_delete pthread_kill pthread_mutex_timedlock pthread_mutex_trylock
  pthread_mutexattr_destroy pthread_mutexattr_init pthread_mutexattr_setpshared
  pthread_mutexattr_settype pthread_once pthread_rwlock_destroy pthread_rwlock_init
  pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock
  pthread_rwlock_tryrdlock pthread_rwlock_trywrlock pthread_rwlock_unlock pthread_rwlock_wrlock
  pthread_rwlockattr_destroy pthread_rwlockattr_init pthread_rwlockattr_setpshared
  pthread_setspecific pthread_sigmask pthread_spin_destroy pthread_spin_init pthread_spin_lock
  pthread_spin_trylock pthread_spin_unlock sem_destroy sem_init sem_post sem_timedwait sem_trywait
  sem_wait pthread_condattr_setclock@GLIBC_2.3.3 pthread_getaffinity_np@GLIBC_2.3.4
  pthread_setaffinity_np@GLIBC_2.3.4 pthread_setname_np@GLIBC_2.12)
set(ML_FLOOR_dl dladdr dlclose dlerror dlopen dlsym dlvsym dlmopen@GLIBC_2.3.4)
set(ML_FLOOR_rt shm_open shm_unlink)
set(ML_FLOOR_FILE_pthread libpthread.so.0)
set(ML_FLOOR_FILE_dl libdl.so.2)
set(ML_FLOOR_FILE_rt librt.so.1)

function(ml_glibc_floor target)
  check_cxx_symbol_exists(__GLIBC__ features.h ML_ON_GLIBC)
  if(NOT ML_ON_GLIBC OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|aarch64)$")
    return()
  endif()

  set(folder ${CMAKE_CURRENT_BINARY_DIR}/glibc_floor)
  set(stubs "")
  foreach(library pthread dl rt)
    set(source "extern \"C\" {\n")
    set(versions "")
    foreach(entry ${ML_FLOOR_${library}})
      string(REGEX MATCH "^([^@]+)@?(.*)$" _ ${entry})
      set(name ${CMAKE_MATCH_1})
      set(version ${CMAKE_MATCH_2})
      if(CMAKE_SYSTEM_PROCESSOR STREQUAL aarch64)
        set(version GLIBC_2.17)
      elseif(NOT version)
        set(version GLIBC_2.2.5)
      endif()
      string(APPEND source "void ${name}() {}\n")
      list(APPEND versions ${version})
      list(APPEND names_${library}_${version} ${name})
    endforeach()
    list(REMOVE_DUPLICATES versions)
    set(map "")
    foreach(version ${versions})
      list(JOIN names_${library}_${version} "; " names)
      string(APPEND map "${version} { global: ${names}; };\n")
    endforeach()
    file(CONFIGURE OUTPUT ${folder}/${library}.cpp CONTENT "${source}}\n" @ONLY)
    file(CONFIGURE OUTPUT ${folder}/${library}.map CONTENT "${map}" @ONLY)

    set(stub ml_floor_${library})
    add_library(${stub} SHARED ${folder}/${library}.cpp)
    set_target_properties(${stub} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${folder} NO_SONAME ON
      LINK_DEPENDS ${folder}/${library}.map)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${folder}/${library}.map)
    target_compile_options(${stub} PRIVATE -fno-builtin)
    target_link_options(${stub} PRIVATE -nostdlib -Wl,-soname,${ML_FLOOR_FILE_${library}}
      -Wl,--version-script=${folder}/${library}.map)
    add_dependencies(${target} ${stub})
    list(APPEND stubs $<TARGET_FILE:${stub}>)
  endforeach()

  # Before everything else, and kept although --as-needed may be the compiler's default: else the
  # linker takes libc's new names.
  list(JOIN stubs "," files)
  target_link_options(${target} BEFORE PRIVATE
    "LINKER:--push-state,--no-as-needed,${files},--pop-state")
  target_sources(${target} PRIVATE native/compat/glibc.cpp)
endfunction()
