# What `cmake --install` puts where, in two components that are also two Debian packages: what runs
# (banger), and what a plugin is built against (banger-plugin-dev).
#
# Below the prefix lies what a build tree has, because the programs look for each other from where
# they are: bin/, lib/banger/. No units: `banger system install` has them built in, and copies the
# programs from here to /usr/local, which is root's.
include(CMakePackageConfigHelpers)
if(BANGER_SANITIZE OR BANGER_FUZZ OR BANGER_COVERAGE)
  return()
endif()

# ---- banger
install(TARGETS banger bangerd bangerd-root RUNTIME DESTINATION bin COMPONENT banger)
# Not for people, so in nobody's PATH.
foreach(program banger-vsock-agent banger-plugin-host)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION lib/banger COMPONENT banger)
  endif()
endforeach()
get_property(modules GLOBAL PROPERTY BANGER_PLUGIN_MODULES)
list(REMOVE_ITEM modules banger_plugin_module_fake)  # the test double is no part of the product
foreach(module ${modules})
  get_target_property(source ${module} SOURCE_DIR)
  get_target_property(name ${module} OUTPUT_NAME)
  install(TARGETS ${module} LIBRARY DESTINATION lib/banger/plugins COMPONENT banger
    PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
  install(FILES ${source}/${name}.toml DESTINATION lib/banger/plugins COMPONENT banger)
endforeach()

set(share ${CMAKE_BINARY_DIR}/share)
install(DIRECTORY ${share}/man DESTINATION share COMPONENT banger)
install(FILES ${share}/completions/bash RENAME banger COMPONENT banger
  DESTINATION share/bash-completion/completions)
install(FILES ${share}/completions/zsh RENAME _banger COMPONENT banger
  DESTINATION share/zsh/vendor-completions)
install(FILES ${share}/completions/fish RENAME banger.fish COMPONENT banger
  DESTINATION share/fish/vendor_completions.d)
install(FILES README.md DESTINATION share/doc/banger COMPONENT banger)
install(FILES LICENSE DESTINATION share/doc/banger RENAME copyright COMPONENT banger)
install(DIRECTORY docs DESTINATION share/doc/banger COMPONENT banger)

# ---- banger-plugin-dev
install(DIRECTORY plugin-api/include/ tests/contract/include/ DESTINATION include COMPONENT dev)
install(FILES $<TARGET_FILE:banger_plugin_api> RENAME libbanger-plugin-api.a
  DESTINATION lib COMPONENT dev)
install(FILES $<TARGET_FILE:banger_plugin_contract> RENAME libbanger-plugin-contract.a
  DESTINATION lib COMPONENT dev)
file(STRINGS plugin-api/include/banger/plugin.hpp api REGEX "^#define BANGER_PLUGIN_API_VERSION")
string(REGEX REPLACE "[^0-9]" "" api "${api}")
set(package ${CMAKE_BINARY_DIR}/BangerPluginApi)
configure_package_config_file(cmake/BangerPluginApiConfig.cmake.in
  ${package}/BangerPluginApiConfig.cmake INSTALL_DESTINATION lib/cmake/BangerPluginApi)
write_basic_package_version_file(${package}/BangerPluginApiConfigVersion.cmake
  VERSION ${api}.0 COMPATIBILITY SameMajorVersion)
install(FILES ${package}/BangerPluginApiConfig.cmake ${package}/BangerPluginApiConfigVersion.cmake
  cmake/BangerPlugin.cmake DESTINATION lib/cmake/BangerPluginApi COMPONENT dev)
install(FILES LICENSE DESTINATION share/doc/banger-plugin-dev RENAME copyright COMPONENT dev)
foreach(example image-folder image-http dns-hosts storage-reflink)
  install(DIRECTORY tests/third-party/${example} COMPONENT dev
    DESTINATION share/doc/banger-plugin-dev/examples)
endforeach()

# What was built is packed; the test that does that builds nothing.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

# ---- packages: `cpack --config build/release/CPackConfig.cmake`
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL banger dev)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGE_CONTACT "the banger maintainers")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_STRIP_FILES ON)
# Whatever the umask: a plugin in a folder that others can write is refused.
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_BANGER_PACKAGE_NAME banger)
set(CPACK_COMPONENT_BANGER_DESCRIPTION "real Linux machines on microVMs in one command
 A machine has its own kernel, its own systemd and its own Docker, and is there in
 seconds. `banger vm run` is the way in; `banger doctor` says what is missing.")
set(CPACK_DEBIAN_BANGER_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_BANGER_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_BANGER_PACKAGE_DEPENDS "debian-archive-keyring, e2fsprogs, kmod, mmdebstrap, openssh-client, qemu-system-x86, uidmap")
set(CPACK_DEBIAN_BANGER_PACKAGE_RECOMMENDS git)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME banger-plugin-dev)
set(CPACK_COMPONENT_DEV_DESCRIPTION "headers, contract tests and examples for plugins of banger
 find_package(BangerPluginApi) finds them; `banger plugin new` writes a project.")
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "banger (= ${PROJECT_VERSION}), g++, libgmock-dev")
set(CPACK_DEBIAN_DEV_PACKAGE_RECOMMENDS "cmake (>= 3.25)")
include(CPack)
