"""The scenarios by name. Each takes the World and raises Failure, or returns."""

from bytes_test import bytes_scenario, bytes_self_test
from faults_test import (destroy_scenario, destroy_self_test, kill_scenario, kill_self_test,
                         reboot_scenario)
from guests_test import foreign_scenario, limits_scenario, permissions_scenario

# What a run does when it is not told which.
SCENARIOS = {
    "bytes": bytes_scenario,
    "reboot": reboot_scenario,
}

# Only when named: these have not been seen to pass whole. The last three plant a fault, and pass
# when the checks of the scenario notice it.
UNPROVEN = {
    "foreign": foreign_scenario,
    "limits": limits_scenario,
    "permissions": permissions_scenario,
    "kill": kill_scenario,
    "destroy": destroy_scenario,
    "bytes-fault": bytes_self_test,
    "kill-fault": kill_self_test,
    "destroy-fault": destroy_self_test,
}
