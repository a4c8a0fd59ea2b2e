# banger_add_plugin(NAME SOURCES … [LIBRARIES …])
#
# Makes NAME.so beside a copy of NAME.toml, and the object library banger_plugin_NAME for tests that
# link the plugin's code directly. Hidden visibility, no unresolved symbols, never unloaded.
#
# The same file serves banger's own tree and, installed, find_package(BangerPluginApi). There both
# files come to be in lib/banger/plugins of the build folder, and `cmake --install` puts them into
# lib/banger/plugins of its prefix: ~/.local for one user, banger's own prefix for all.
function(banger_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  set(folder ${BANGER_PLUGIN_OUTPUT_DIRECTORY})
  if(NOT folder)
    set(folder ${CMAKE_BINARY_DIR}/lib/banger/plugins)
  endif()
  set(objects banger_plugin_${name})
  add_library(${objects} OBJECT ${arg_SOURCES})
  target_link_libraries(${objects} PUBLIC
    banger::plugin-api $<TARGET_NAME_IF_EXISTS:banger::flags> ${arg_LIBRARIES})
  # banger compares the language level of the library with its own.
  set_target_properties(${objects} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)

  set(module banger_plugin_module_${name})
  set(manifest ${CMAKE_CURRENT_SOURCE_DIR}/${name}.toml)
  add_library(${module} MODULE)
  target_link_libraries(${module} PRIVATE ${objects})
  set_target_properties(${module} PROPERTIES
    OUTPUT_NAME ${name} PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} LINK_DEPENDS ${manifest})
  target_link_options(${module} PRIVATE -Wl,-z,now,-z,relro,-z,nodelete -Wl,--exclude-libs,ALL)
  add_custom_command(TARGET ${module} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${manifest} ${folder}/${name}.toml)
  set_property(GLOBAL APPEND PROPERTY BANGER_PLUGIN_MODULES ${module})
  if(TARGET banger::flags)  # banger's own tree, which is installed by BangerInstall.cmake
    return()
  endif()
  target_link_options(${module} PRIVATE -Wl,-z,defs)
  install(TARGETS ${module} LIBRARY DESTINATION lib/banger/plugins
    PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
  install(FILES ${manifest} DESTINATION lib/banger/plugins)
endfunction()
