# `make demo` and `make test` bring .venv up to date and run; see `make help`.

# A sourced ROS, or the environment of other ROS wheels, would lend its libraries and packages to ours.
unexport CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONHOME PYTHONPATH
unexport RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/.venv

VENV := .venv/bin

.PHONY: help setup demo evaluate test fuzz lint docs ros-test clean

help:
	@echo "make demo [BAG=path [TOPIC=name]]  simulate a recording (or take a bag), detect objects in it through ROS 2: demo.png"
	@echo "make evaluate BAG=path [TOPIC=name]  play a bag at x1 to x10, measure latency and, with labels, precision"
	@echo "make test             check style and types, run all tests"
	@echo "make fuzz [MINUTES=20] [SEED=n]  damaged packets, files, states and models: nothing may crash, hang or be misread"
	@echo "make lint             check style and types"
	@echo "make docs             make the documentation in build/docs"
	@echo "make ros-test         in a colcon workspace, with ROS from apt: build and test there"
	@echo "make setup            bring .venv up to date, nothing else"
	@echo "make clean            remove .venv and everything built or cached"
	@echo "PYTHON=python3.12 make ... chooses the Python of .venv: 3.11 to 3.13, later ones without ROS"

setup:
	@scripts/setup.sh

demo: setup
	$(VENV)/aegnn_demo $(if $(BAG),--bag "$(BAG)") $(if $(TOPIC),--topic "$(TOPIC)")

evaluate: setup
	$(if $(BAG),,$(error make evaluate needs a bag with event packets: make evaluate BAG=path [MODEL=name or file]))
	$(VENV)/evaluate_bag "$(BAG)" $(if $(TOPIC),--topic "$(TOPIC)") $(if $(MODEL),--model "$(MODEL)")

lint: setup
	$(VENV)/python -m ruff check .
	$(VENV)/python -m ruff format --check .
	$(VENV)/python -m mypy aegnn_core aegnn_ros

# One process has the tests that start nodes, which wait most of the time, and the other one the rest.
test: lint
	$(VENV)/python -m pytest --numprocesses=2

docs: setup
	$(VENV)/python -m pip install --quiet --constraint requirements/constraints.txt --requirement requirements/docs.txt
	$(VENV)/python -m sphinx --fail-on-warning --keep-going docs build/docs

ros-test:
	scripts/ros_test.sh

fuzz: setup
	$(VENV)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv build install log dist *.egg-info interfaces/build interfaces/*.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
