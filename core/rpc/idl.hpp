#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "banger/result.hpp"
#include "core/rpc/fields.hpp"

namespace banger::rpc {

class Interface;

/// A .varlink text, read: what the server finds methods in that have no handler yet, and what the
/// tests compare the field maps with.
struct Idl {
    struct Method {
        std::string name;
        Shape in;
        Shape out;
    };
    std::string name;  ///< "io.banger.Vm"
    std::vector<std::pair<std::string, Shape>> types;
    std::vector<Method> methods;
    std::vector<std::pair<std::string, Shape>> errors;

    /// Strict: a name used twice, a reference to a type that is not there and nesting over 16 are
    /// refused too, with the line. At most 256 KiB.
    static Result<Idl> parse(std::string_view text);
    [[nodiscard]] const Method* find_method(std::string_view method) const;
    /// Follows `named` until something else; the shape itself when it is no name.
    [[nodiscard]] const Shape& resolve(const Shape& shape) const;
};

/// How the contract and the code differ, one sentence each; empty when they agree: every method of
/// the text has a handler and the reverse, the fields of parameters and replies have the same names
/// and types in the same order, and `error Failed (code, message, remedy)` is declared. An enum of
/// ours may be a `string` in the text. For a test.
std::vector<std::string> disagreements(const Interface& interface);

}  // namespace banger::rpc
