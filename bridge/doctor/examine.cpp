#include "bridge/doctor/examine.hpp"

#include <algorithm>

namespace xenlane::bridge::doctor {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "unknown";
}

ExitCode exit_code_of(const std::vector<Finding>& findings) {
  const auto first = std::ranges::find(findings, Severity::error, &Finding::severity);
  if (first != findings.end()) return first->code;
  const auto warning = std::ranges::find(findings, Severity::warning, &Finding::severity);
  return warning != findings.end() ? exit_broken : exit_ok;
}

std::vector<Finding> examine(const Facts& facts) {
  Findings findings;
  examine_devices(facts, findings);
  examine_xenstore(facts, findings);
  examine_files(facts, findings);
  examine_daemon(facts, findings);
  examine_consoles(facts, findings);
  return findings.all();
}

}  // namespace xenlane::bridge::doctor
