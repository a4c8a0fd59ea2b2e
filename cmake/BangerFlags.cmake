# Flags live on two interface libraries, so that a target says what it is and nothing leaks into
# targets of others: banger::flags for all of ours, banger::core_headers adds the source root.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

add_library(banger_flags INTERFACE)
add_library(banger::flags ALIAS banger_flags)
target_compile_options(banger_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  -fstack-protector-strong -fno-omit-frame-pointer)
target_compile_definitions(banger_flags INTERFACE _GLIBCXX_ASSERTIONS)
target_link_options(banger_flags INTERFACE -Wl,-z,relro,-z,now)

set(BANGER_SANITIZE "" CACHE STRING "empty, address or thread")
if(BANGER_SANITIZE STREQUAL "address")
  set(sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(BANGER_SANITIZE STREQUAL "thread")
  set(sanitizer_flags -fsanitize=thread)
  # The sanitizer does not know fences, and g++ says so. Asio's stand beside mutexes that it knows.
  add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)
elseif(NOT BANGER_SANITIZE STREQUAL "")
  message(FATAL_ERROR "BANGER_SANITIZE is '${BANGER_SANITIZE}'; use address, thread or nothing")
else()
  # Fortification needs optimisation and clashes with the sanitizers' own checks.
  set(sanitizer_flags)
  target_compile_options(banger_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>)
  target_link_options(banger_flags INTERFACE -Wl,-z,defs)
endif()
add_compile_options(${sanitizer_flags})
add_link_options(${sanitizer_flags})
if(sanitizer_flags AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Instrumented code hides from g++ that a variant's index was checked; the plain build still warns.
  target_compile_options(banger_flags INTERFACE -Wno-maybe-uninitialized)
endif()

if(BANGER_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_compile_definitions(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
endif()

option(BANGER_COVERAGE "count executed lines" OFF)
if(BANGER_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()

# What core, daemons and cli see: "core/base/rollback.hpp" from the source root.
add_library(banger_core_headers INTERFACE)
add_library(banger::core_headers ALIAS banger_core_headers)
target_include_directories(banger_core_headers INTERFACE ${CMAKE_SOURCE_DIR})
target_link_libraries(banger_core_headers INTERFACE banger::flags)
