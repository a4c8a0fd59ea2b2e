#pragma once

#include <memory>
#include <optional>

#include "banger/plugin.hpp"
#include "failpoints.hpp"
#include "fake_dns.hpp"
#include "fake_image_source.hpp"
#include "fake_network.hpp"
#include "fake_storage.hpp"
#include "fake_vm_backend.hpp"

namespace banger {

/// All five fakes on the folders of one host. A test that links the object library makes it itself
/// and keeps hold of its failpoints.
class FakePlugin final : public Plugin {
public:
    /// Makes sub-folders of the host's and reads its settings (fake.toml; each may be missing).
    static Result<std::unique_ptr<FakePlugin>> make(Host& host);

    Roles roles() override {
        return {&*network_, &*dns_, &*storage_, &*image_source_, &*vm_backend_};
    }
    Failpoints& failpoints() { return failpoints_; }
    FakeDns& dns() { return *dns_; }

private:
    FakePlugin() = default;
    Failpoints failpoints_;
    std::optional<FakeNetwork> network_;
    std::optional<FakeDns> dns_;
    std::optional<FakeStorage> storage_;
    std::optional<FakeImageSource> image_source_;
    std::optional<FakeVmBackend> vm_backend_;
};

}  // namespace banger
