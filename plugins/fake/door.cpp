// Apart from the rest, so that tests can put the fakes behind a door of another name.

#include "fake_plugin.hpp"

namespace banger {
namespace {
Result<std::unique_ptr<Plugin>> make(Host& host) {
    return std::unique_ptr<Plugin>(BANGER_TRY(FakePlugin::make(host)));
}
}  // namespace
}  // namespace banger

BANGER_PLUGIN("fake", banger::make);
