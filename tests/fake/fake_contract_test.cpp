// The fakes under the contract suites of all five roles.

#include "tests/fake/fake_subjects.hpp"

namespace banger::contract {

BANGER_FAKE_CONTRACTS(Fake, Way);

}  // namespace banger::contract
