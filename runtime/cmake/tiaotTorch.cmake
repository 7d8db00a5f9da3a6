# tiaotTorch.cmake: tiaot_torch_library(NAME [MODULES FILE...]) adds the shared library NAME, which registers the kernels
# of module files as operators of torch's dispatcher when it is loaded: programs without Python then run what was
# exported in Python. The modules are in it, and so is tiaot. With or without MODULES it has the functions of
# tiaot/torch.hpp. It is compiled here, for the torch that find_package(Torch) finds.
set(_tiaot_torch_source "${CMAKE_CURRENT_LIST_DIR}/operators.cpp")

function(tiaot_torch_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "MODULES")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "tiaot_torch_library(${name}): expected MODULES before ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT TARGET torch OR NOT TORCH_LIBRARIES)
    find_package(Torch REQUIRED)
  endif()
  set(embedded "")
  set(calls "")
  set(files "")
  set(number 0)
  foreach(file IN LISTS arg_MODULES)
    get_filename_component(file "${file}" ABSOLUTE)
    if(NOT EXISTS "${file}")
      message(FATAL_ERROR "tiaot_torch_library(${name}): there is no module '${file}'")
    endif()
    get_filename_component(base "${file}" NAME)
    list(APPEND files "${file}")
    string(APPEND embedded "asm(\".section .rodata\\n.balign 64\\n\"
    \"tiaot_module_${number}:\\n.incbin \\\"${file}\\\"\\ntiaot_module_${number}_end:\\n.byte 0\\n.previous\\n\");
extern \"C\" __attribute__((visibility(\"hidden\"))) const char tiaot_module_${number}[], tiaot_module_${number}_end[];\n")
    string(APPEND calls "    {\"${base}\", tiaot_module_${number}, tiaot_module_${number}_end},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  set(sources "${_tiaot_torch_source}")
  if(files)
    set(generated "${CMAKE_CURRENT_BINARY_DIR}/${name}_modules.cpp")
    file(CONFIGURE OUTPUT "${generated}" @ONLY CONTENT [[
// Made by tiaot_torch_library: modules, and their registration when the library is loaded.
#include <c10/util/Exception.h>

#include <tiaot/torch.hpp>

@embedded@
namespace {
struct Embedded {
  const char *name, *begin, *end;
};
const Embedded kModules[] = {
@calls@};

// Whoever loads the library may have use for its other modules: what is wrong with one is a warning of torch's.
const bool registered = [] {
  for (const Embedded &each : kModules) {
    try {
      tiaot::register_torch_operators(each.begin, static_cast<size_t>(each.end - each.begin), each.name);
    } catch (const std::exception &error) {
      TORCH_WARN("@name@: ", error.what());
    }
  }
  return true;
}();
}  // namespace
]])
    set_source_files_properties("${generated}" PROPERTIES OBJECT_DEPENDS "${files}")
    list(APPEND sources "${generated}")
  endif()
  add_library(${name} SHARED ${sources})
  target_link_libraries(${name} PRIVATE tiaot::static PUBLIC ${TORCH_LIBRARIES})
  target_include_directories(${name} PUBLIC "$<TARGET_PROPERTY:tiaot::static,INTERFACE_INCLUDE_DIRECTORIES>")
  target_compile_features(${name} PRIVATE cxx_std_20)
  set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  # tiaot is this library's own; what is registered stays; and who links it calls nothing of it.
  target_link_options(${name} PRIVATE LINKER:--exclude-libs,ALL,-z,nodelete INTERFACE LINKER:--no-as-needed)
endfunction()
