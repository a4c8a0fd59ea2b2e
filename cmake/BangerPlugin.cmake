# banger_add_plugin(NAME SOURCES … [LIBRARIES …])
#
# Makes NAME.so beside a copy of NAME.toml, and the object library banger_plugin_NAME for tests that
# link the plugin's code directly. Hidden visibility, no unresolved symbols, never unloaded.
function(banger_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  set(objects banger_plugin_${name})
  add_library(${objects} OBJECT ${arg_SOURCES})
  target_link_libraries(${objects} PUBLIC banger::plugin_api banger::flags ${arg_LIBRARIES})
  set_target_properties(${objects} PROPERTIES
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)

  set(module banger_plugin_module_${name})
  add_library(${module} MODULE)
  target_link_libraries(${module} PRIVATE ${objects})
  set_target_properties(${module} PROPERTIES
    OUTPUT_NAME ${name} PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${BANGER_PLUGIN_OUTPUT_DIRECTORY})
  target_link_options(${module} PRIVATE -Wl,-z,now,-z,relro,-z,nodelete -Wl,--exclude-libs,ALL)
  add_custom_command(TARGET ${module} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy_if_different
      ${CMAKE_CURRENT_SOURCE_DIR}/${name}.toml ${BANGER_PLUGIN_OUTPUT_DIRECTORY}/${name}.toml)
  set_property(GLOBAL APPEND PROPERTY BANGER_PLUGIN_MODULES ${module})
endfunction()
