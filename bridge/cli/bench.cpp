// xenlane bench: what each lane costs on this machine, and which is the right one for what.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/address.hpp"
#include "bridge/cli/bench/budget.hpp"
#include "bridge/cli/bench/plan.hpp"
#include "bridge/cli/bench/plot.hpp"
#include "bridge/cli/bench/print.hpp"
#include "bridge/cli/bench/run.hpp"
#include "bridge/cli/verbs.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

/// What a program has that a signal ended, for the shell.
constexpr int exit_signalled = 128;

struct VerbOptions {
  BenchOptions bench;
  std::string json_file;
  std::string plot_file;
  std::string show_file;
  std::string check_file;
  std::string serve;
  bool calibrate = false;
};

std::string read_text(const std::string& path, bool& readable) {
  std::ifstream file(path);
  readable = file.is_open();
  return {std::istreambuf_iterator<char>(file), {}};
}

Answer<BenchReport> measure(const Context& context, const BenchOptions& options) {
  Answer<BenchPlan> plan = make_plan(context, options);
  if (plan.failure) return {{}, plan.failure};
  BenchReport report = begin_report(plan.value, options);
  const bool progress = ::isatty(STDERR_FILENO) == 1;
  const auto clear = [progress] {
    if (progress) fmt::print(stderr, "\r\x1b[K");
  };
  try {
    run_bench(
        plan.value,
        [progress](const std::string& step) {
          if (progress) fmt::print(stderr, "\r\x1b[K{}", step);
        },
        report);
  } catch (const BenchFailure& failure) {
    clear();
    return {{}, Failure{failure.code, failure.what()}};
  }
  clear();
  return {std::move(report), {}};
}

Answer<BenchReport> load(const std::string& path) {
  const auto failed = [&path](const std::string& what) {
    return Answer<BenchReport>{{}, Failure{exit_usage, escape_untrusted(path) + ": " + what}};
  };
  bool readable = false;
  const std::string text = read_text(path, readable);
  if (!readable) return failed("cannot be read");
  boost::system::error_code error;
  const auto value = json::parse(text, error);
  if (error) return failed("not JSON");
  try {
    return {report_from_json(value), {}};
  } catch (const std::runtime_error& failure) {
    return failed(failure.what());
  }
}

/// Fills `budgets`; exit_ok, or every error has been told.
int read_budgets(const std::string& path, BenchBudgets& budgets) {
  if (path.empty()) return exit_ok;
  bool readable = false;
  const std::string text = read_text(path, readable);
  if (!readable) return fail(exit_configuration, escape_untrusted(path) + ": cannot be read");
  budgets = parse_budgets(text, path);
  for (const std::string& error : budgets.errors) fail(exit_configuration, error);
  return budgets.errors.empty() ? exit_ok : exit_configuration;
}

int print_outcomes(const BenchReport& report, const std::vector<BenchBudget>& budgets) {
  bool all_kept = true;
  for (const BenchOutcome& outcome : check_budgets(report, budgets)) {
    fmt::print("{}  {}\n", outcome.kept ? "ok    " : "FAILED", outcome.text);
    all_kept &= outcome.kept;
  }
  return all_kept ? exit_ok : exit_broken;
}

/// Files first: what took minutes to measure is there whatever goes wrong with the rest.
int write_files(const BenchReport& report, const VerbOptions& options) {
  if (!options.json_file.empty()) {
    std::ofstream file(options.json_file);
    file << json::serialize(to_json(report)) << '\n';
    if (!file.flush()) {
      return fail(exit_broken, escape_untrusted(options.json_file) + ": cannot be written");
    }
  }
  if (options.plot_file.empty()) return exit_ok;
  try {
    draw_plot(report, options.plot_file);
  } catch (const std::runtime_error& failure) {
    return fail(exit_broken, failure.what());
  }
  return exit_ok;
}

int serve(const std::string& text) {
  const auto address = parse_bench_address(text);
  if (!address) return fail(exit_usage, "--serve: " + address.error().text);
  try {
    const int signal_number = serve_until_signal(listen_at(*address));
    if (!address->path.empty()) ::unlink(address->path.c_str());
    return exit_signalled + signal_number;
  } catch (const BenchFailure& failure) {
    return fail(failure.code, failure.what());
  }
}

int run_verb(const Context& context, const VerbOptions& options) {
  if (!options.serve.empty()) return serve(options.serve);
  BenchBudgets budgets;
  if (const int code = read_budgets(options.check_file, budgets); code != exit_ok) return code;
  const Answer<BenchReport> report =
      options.show_file.empty() ? measure(context, options.bench) : load(options.show_file);
  if (report.failure) return fail(report.failure->code, report.failure->message);
  const int written = write_files(report.value, options);
  if (!options.check_file.empty()) {
    const int kept = print_outcomes(report.value, budgets.budgets);
    return written != exit_ok ? written : kept;
  }
  if (options.calibrate) {
    const auto lines = thresholds_of(report.value);
    if (lines.empty()) return fail(exit_broken, "thresholds need figures of both lanes");
    for (const std::string& line : lines) fmt::print("{}\n", line);
  } else {
    print_report(stdout, report.value, colours_wanted());
  }
  return written;
}

std::string check_plot_name(const std::string& name) {
  return name.ends_with(".svg") || name.ends_with(".png") ? "" : "neither .svg nor .png";
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<VerbOptions>();
  BenchOptions& bench = options->bench;
  CLI::App* verb = app.add_subcommand("bench", "Measure what each lane costs on this machine");
  verb->add_option("GUEST", bench.guest, "The guest (on the host; not needed if there is one)");
  verb->add_option("--lanes", bench.lanes, "Of vchan and console (default: those there are)")
      ->delimiter(',')
      ->check(CLI::IsMember({"vchan", "console"}));
  verb->add_option("--sizes", bench.sizes, "Message sizes: 16..1M, or 64,4K,1M")
      ->capture_default_str();
  verb->add_option("--time", bench.time_s, "Seconds for each measurement")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 20.0));
  verb->add_option("--rounds", bench.rounds, "How often all is measured")
      ->capture_default_str()
      ->check(CLI::Range(1U, 100U));
  verb->add_option("--data", bench.data_file, "Make messages of this file, not of random bytes");
  verb->add_option("--path", bench.paths,
                   "NAME=unix:/PATH or NAME=tcp:HOST:PORT: a way besides, to a --serve")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_option("--one-at-a-time", bench.one_at_a_time,
                   "NAME of a --path that takes one connection at a time")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_flag("--no-baselines", bench.no_baselines, "Leave out a direct socket and socats");
  verb->add_option("--json", options->json_file, "Write the report there, too");
  verb->add_option("--plot", options->plot_file, "Draw it there with gnuplot: .svg or .png")
      ->check(check_plot_name);
  verb->add_option("--show", options->show_file, "Measure nothing: show this report");
  verb->add_option("--check", options->check_file,
                   "Compare with the ratios in this TOML file; exit code 1 when one falls short");
  verb->add_flag("--calibrate", options->calibrate,
                 "Print the [lanes] thresholds that follow, and nothing else");
  verb->add_option("--serve", options->serve,
                   "Measure nothing: be the far end of a --path, at this address");
  verb->footer(
      "The far side needs the channel org.xenlane.bench.0 with the target builtin:bench, this "
      "side\n"
      "the same channel to listen on; docs/bench.md has the lines. Each lane is held while it is\n"
      "measured, and then as it was, however xenlane ends.\n"
      "Examples:\n"
      "  xenlane bench web                            all lanes there are, some minutes\n"
      "  xenlane bench web --sizes 64,64K --rounds 3  sooner\n"
      "  xenlane bench --lanes vchan                  in a guest; without that lane it fails\n"
      "  xenlane bench web --json r.json --plot r.svg\n"
      "  xenlane bench --show r.json --calibrate      lines for the configuration\n"
      "  xenlane bench --serve tcp:10.0.0.2:9000      in a guest, for the next\n"
      "  xenlane bench web --path network=tcp:10.0.0.2:9000");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_verb(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli
