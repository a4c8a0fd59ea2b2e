#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/render/terminal.hpp"

namespace banger::cli {

/// Text in a table. Foreign text becomes printable() here.
struct Cell {
    // NOLINTBEGIN(google-explicit-constructor): a row is written as a list of texts
    Cell(std::string_view value, Style::Colour shade = Style::Colour::none);
    Cell(const std::string& value) : Cell(std::string_view(value)) {}
    Cell(const char* value) : Cell(std::string_view(value)) {}
    // NOLINTEND(google-explicit-constructor)
    std::string text;
    Style::Colour colour;
};

/// Columns, aligned, two spaces apart, under a heading. A width other than 0 cuts the last column
/// where a line would be longer.
class Table {
public:
    explicit Table(std::vector<std::string> headings) : headings_(std::move(headings)) {}
    /// As many cells as there are headings.
    void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
    [[nodiscard]] bool is_empty() const { return rows_.empty(); }
    [[nodiscard]] std::string text(const Style& style, unsigned width) const;

private:
    std::vector<std::string> headings_;
    std::vector<std::vector<Cell>> rows_;
};

/// What `show` prints: "name:  sandbox", aligned. Rows with an empty value are left out.
class Sheet {
public:
    void add(std::string name, Cell value) {
        rows_.emplace_back(std::move(name), std::move(value));
    }
    [[nodiscard]] std::string text(const Style& style) const;

private:
    std::vector<std::pair<std::string, Cell>> rows_;
};

}  // namespace banger::cli
