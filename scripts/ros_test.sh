#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build and test this package in the colcon workspace that it lies in (src/aegnn_ros), with ROS 2 from apt.
#   ROS_SETUP  the distribution's setup.bash; by default that of the only one in /opt/ros
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'ros-test: %s\n' "$1" >&2
    exit 1
}

package=$PWD
workspace=$(cd ../.. && pwd)
[[ $package == "$workspace/src/"* ]] || fail "$package is not in a colcon workspace: expected <workspace>/src/aegnn_ros."
ROS_SETUP=${ROS_SETUP:-$(compgen -G '/opt/ros/*/setup.bash' || true)}
[[ -f $ROS_SETUP ]] || fail "ROS_SETUP is '$ROS_SETUP', expected one setup.bash below /opt/ros."

set +u # ROS's own script uses variables that are not set
# shellcheck disable=SC1090
source "$ROS_SETUP"
set -u
cd "$workspace"
rosdep update --rosdistro "$ROS_DISTRO"
rosdep install --from-paths src --ignore-src --yes

# Packages of pip beside those of apt, for this package alone; colcon runs in it, so the executables start in it.
python3 -m venv --system-site-packages .venv
touch .venv/COLCON_IGNORE
.venv/bin/python -m pip install --quiet --constraint "$package/requirements/beside_apt.txt" \
    --requirement "$package/requirements/runtime.txt" --requirement "$package/requirements/train.txt" \
    --requirement "$package/requirements/cluster.txt" pytest pytest-rerunfailures colcon-common-extensions
.venv/bin/python -m colcon build --symlink-install --packages-select aegnn_ros
set +u
# shellcheck disable=SC1091
source install/setup.bash
set -u
.venv/bin/python -m colcon test --packages-select aegnn_ros --event-handlers console_direct+ --return-code-on-test-failure
