// The halves of Boost.Asio and Boost.JSON that are not templates, compiled once for the whole tree
// instead of once in every file that uses them. See the target xenlane_boost.
#include <boost/asio/impl/src.hpp>
#include <boost/json/src.hpp>
