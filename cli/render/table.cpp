#include "cli/render/table.hpp"

#include <algorithm>

#include "cli/render/text.hpp"

namespace banger::cli {

Cell::Cell(std::string_view value, Style::Colour shade) : text(printable(value)), colour(shade) {}

std::string Table::text(const Style& style, unsigned width) const {
    std::vector<std::size_t> widths;
    for (std::size_t column = 0; column < headings_.size(); ++column) {
        std::size_t widest = width_of(headings_[column]);
        for (const std::vector<Cell>& row : rows_)
            widest = std::max(widest, width_of(row[column].text));
        widths.push_back(widest);
    }
    std::size_t before_last = 0;
    for (std::size_t column = 0; column + 1 < widths.size(); ++column)
        before_last += widths[column] + 2;

    std::string out;
    const auto add_line = [&](const auto& text_at, const auto& colour_at) {
        for (std::size_t column = 0; column < headings_.size(); ++column) {
            std::string cell = text_at(column);
            const bool is_last = column + 1 == headings_.size();
            // No room worth using: better a line that wraps than one that says nothing.
            if (is_last && width >= before_last + 10) cell = shortened(cell, width - before_last);
            const std::size_t used = width_of(cell);
            out += style(colour_at(column), cell);
            if (!is_last) out.append(widths[column] + 2 - used, ' ');
        }
        while (out.ends_with(' '))
            out.pop_back();
        out += '\n';
    };
    add_line([&](std::size_t column) { return headings_[column]; },
             [](std::size_t) { return Style::Colour::bold; });
    for (const std::vector<Cell>& row : rows_)
        add_line([&](std::size_t column) { return row[column].text; },
                 [&](std::size_t column) { return row[column].colour; });
    return out;
}

std::string Sheet::text(const Style& style) const {
    std::size_t widest = 0;
    for (const auto& [name, value] : rows_)
        if (!value.text.empty()) widest = std::max(widest, width_of(name));
    std::string out;
    for (const auto& [name, value] : rows_) {
        if (value.text.empty()) continue;
        out += style(Style::Colour::bold, name + ":");
        out.append(widest + 2 - width_of(name), ' ');
        out += style(value.colour, value.text) + "\n";
    }
    return out;
}

}  // namespace banger::cli
