// What `xenlane cp` shows: troubles as they come, progress on a terminal, and the end.
#pragma once

#include <chrono>
#include <string>

#include "bridge/cli/exit_codes.hpp"
#include "bridge/files/progress.hpp"
#include "bridge/files/report.hpp"

namespace xenlane::bridge::cli {

struct CopyDisplayOptions {
  bool as_json = false;
  bool verbose = false;  ///< a line for each thing that is copied
  bool dry_run = false;
  bool progress = false;  ///< on stderr, a line that is written over
};

class CopyDisplay : public files::Report {
 public:
  explicit CopyDisplay(CopyDisplayOptions options) : options_(options) {}

  void trouble(files::Trouble trouble, int error, const std::string& untrusted_path,
               const std::string& untrusted_text) override;
  void copying(const std::string& untrusted_path) override;
  void progress(const files::Counts& counts) override;

  /// After the last message: the sum, and the exit code.
  ExitCode finish();
  /// Takes a half-written progress line away.
  void clear_line();

 private:
  using Clock = std::chrono::steady_clock;

  void show();
  void print_json(const char* event) const;

  CopyDisplayOptions options_;
  files::Counts counts_;
  files::Rate rate_;
  Clock::time_point began_ = Clock::now();
  Clock::time_point next_{};
  std::uint64_t troubles_ = 0;
  bool has_line_ = false;
  ExitCode worst_ = exit_ok;
};

}  // namespace xenlane::bridge::cli
