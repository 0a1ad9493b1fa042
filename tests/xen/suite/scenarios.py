"""The scenarios by name, the longest first. Each takes the World and raises Failure, or returns.
Those named ...-fault plant a fault, and pass when the checks of their scenario notice it. What is
in ON_REQUEST runs only when it is named."""

from bench_test import bench_by_hand_scenario, bench_scenario
from bulk_test import bulk_scenario
from bytes_test import bytes_scenario, bytes_self_test
from channels_test import channels_restore_scenario, channels_scenario
from console_test import console_rate_scenario, console_scenario
from copy_test import copy_scenario
from doctor_test import doctor_scenario
from facts_test import facts_scenario
from faults_test import (destroy_scenario, destroy_self_test, kill_broker, kill_guest_bridge,
                         kill_scenario, kill_self_test, kill_worker, reboot_scenario)
from forward_test import forward_scenario
from guests_test import foreign_scenario, limits_scenario, permissions_scenario

SCENARIOS = {
    "destroy": destroy_scenario,
    "console": console_scenario,
    "channels": channels_scenario,
    "facts": facts_scenario,
    "kill-guest": kill_scenario(kill_guest_bridge),
    "kill-worker": kill_scenario(kill_worker),
    "kill-host": kill_scenario(kill_broker),
    "bulk": bulk_scenario,
    "copy": copy_scenario,
    "forward": forward_scenario,
    "permissions": permissions_scenario,
    "bytes": bytes_scenario,
    "limits": limits_scenario,
    "doctor": doctor_scenario,
    "reboot": reboot_scenario,
    "destroy-fault": destroy_self_test,
    "foreign": foreign_scenario,
    "kill-fault": kill_self_test,
    "bytes-fault": bytes_self_test,
}

ON_REQUEST = {
    "bench": bench_scenario,
    "channels-restore": channels_restore_scenario,
    "bench-by-hand": bench_by_hand_scenario,
    "console-rate": console_rate_scenario,
}
