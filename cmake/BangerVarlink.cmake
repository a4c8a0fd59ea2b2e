# banger_add_varlink(TARGET FILE.varlink …)
#
# Makes each text a constant that the target can include: `#include "varlink/io.banger.Vm.hpp"` declares
# banger::varlink::io_banger_Vm, a std::string_view of the file. The file stays the one contract.
function(banger_add_varlink target)
  foreach(file ${ARGN})
    cmake_path(GET file STEM LAST_ONLY interface)
    string(MAKE_C_IDENTIFIER ${interface} name)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    file(READ ${file} text)
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/varlink/${interface}.hpp @ONLY CONTENT
[[#pragma once

#include <string_view>

namespace banger::varlink {
inline constexpr std::string_view @name@ = R"varlink(@text@)varlink";
}  // namespace banger::varlink
]])
  endforeach()
  get_target_property(kind ${target} TYPE)
  set(scope PUBLIC)
  if(kind STREQUAL "INTERFACE_LIBRARY")
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope} ${CMAKE_CURRENT_BINARY_DIR})
endfunction()
