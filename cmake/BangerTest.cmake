find_package(GTest REQUIRED)
include(GoogleTest)

# banger_add_test(NAME LABEL label SOURCES … [LIBRARIES …] [TIMEOUT seconds])
#
# One GoogleTest program; each TEST in it is a ctest test of its own. LABEL is the layer: unit,
# contract, component, netns, boot, lab.
function(banger_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT" "SOURCES;LIBRARIES")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  # Under the thread sanitizer only the programs of tests/tsan-targets.txt are built, whatever their
  # layer: one label selects them.
  if(BANGER_SANITIZE STREQUAL "thread")
    set(arg_LABEL tsan)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} banger::core_headers GTest::gmock
    GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
endfunction()
