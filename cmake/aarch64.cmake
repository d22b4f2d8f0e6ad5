# SPDX-License-Identifier: Apache-2.0
# Static programs for 64-bit ARM from another Debian machine. ER_SYSROOT: a folder into which the arm64 packages of the C
# library and of what errata links were unpacked (tests/bits/run.sh makes one, without touching the machine's packages).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ER_SYSROOT)
set(CMAKE_SYSROOT ${ER_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
# FindOpenMP would take the compiler's shared one
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libgomp.a OUTPUT_VARIABLE gomp
  OUTPUT_STRIP_TRAILING_WHITESPACE)
set(OpenMP_gomp_LIBRARY ${gomp} CACHE FILEPATH "")
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${ER_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${ER_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${ER_SYSROOT}/usr/share/pkgconfig)
