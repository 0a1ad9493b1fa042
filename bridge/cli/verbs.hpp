// The verbs: each adds its subcommand and, when that was chosen, runs and returns the exit code.
#pragma once

#include <CLI/App.hpp>
#include <functional>

#include "bridge/cli/context.hpp"

namespace xenlane::bridge::cli {

/// What the chosen verb does once the arguments are parsed.
using Action = std::function<int(const Context&)>;

void add_ls(CLI::App& app, Action& action);
void add_status(CLI::App& app, Action& action);
void add_connect(CLI::App& app, Action& action);
void add_cp(CLI::App& app, Action& action);
void add_serve_files(CLI::App& app, Action& action);
void add_forward(CLI::App& app, Action& action);
void add_lane(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_channel(CLI::App& app, Action& action);
void add_policy(CLI::App& app, Action& action);
void add_watch(CLI::App& app, Action& action);
void add_reload(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_channel_list(CLI::App& app, Action& action);
void add_names(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_top(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);

}  // namespace xenlane::bridge::cli
