// Boost.JSON's own code, compiled once for the whole tree.
#include <boost/json/src.hpp>
