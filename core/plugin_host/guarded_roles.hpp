#pragma once

#include <memory>
#include <string>
#include <vector>

#include "banger/plugin.hpp"

/// What stands between core and a role whose process is not believed.
namespace banger::plugin_host {

/// `fetch` gets the write end of a pipe that core empties into the sink: what the process keeps
/// open after the call, or writes then, reaches nobody, and the reader of the sink sees its end.
std::unique_ptr<ImageSource> guard(ImageSource& inner);

/// Only machines that recover() was asked about can be lost: core stops those, or calls them
/// broken. A link of another machine than was asked for is Errc::corrupt: it would become one of
/// those.
std::unique_ptr<Network> guard(Network& inner);

/// The same for volumes; and one whose path lies outside of `folders`, or is a link there, is
/// Errc::corrupt: its file becomes a machine's disk, opened with the owner's rights.
std::unique_ptr<Storage> guard(Storage& inner, std::vector<std::string> folders);

}  // namespace banger::plugin_host
