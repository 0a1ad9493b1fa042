// Boost.JSON without its library: its source, compiled once.
#include <boost/json/src.hpp>
