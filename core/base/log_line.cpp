#include "core/base/log_line.hpp"

#include <unistd.h>

#include <string>

#include "core/base/file.hpp"

namespace banger {

void write_log_line(LogLevel level, std::string_view text) {
    std::string line = level == LogLevel::error     ? "<3>"
                       : level == LogLevel::warning ? "<4>"
                       : level == LogLevel::info    ? "<6>"
                                                    : "<7>";
    for (const char c : text.substr(0, 2000))
        line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    static_cast<void>(write_all(STDERR_FILENO, line + "\n"));
}

}  // namespace banger
