#pragma once

#include <string>
#include <string_view>
#include <vector>

/// Completion for shells. Each script is small: it hands the words to `banger __complete` and shows
/// what comes back.
namespace banger::cli {

/// "bash", "zsh", "fish", "powershell".
const std::vector<std::string>& completion_shells();
std::string_view completion_script(std::string_view shell);

}  // namespace banger::cli
