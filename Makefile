# SPDX-License-Identifier: GPL-2.0-only
# Everything installs what it needs first: on a fresh Debian, `make demo` is the first command.

PYTHON := .venv/bin/python
APT := python3-venv
APT_MACHINES := qemu-utils mmdebstrap e2fsprogs mount rsync openssh-client iproute2 git perl xz-utils $(if $(filter 0,$(shell id -u)),,uidmap)
APT_VAGRANT := $(shell sed 's/\#.*//' vm/vagrant/packages.txt 2>/dev/null)
# A trace that was recorded; what is built for a release has to analyze it.
TRACE := tests/data/virtio_net_pressure/trace.rxt
APT_DEB := debhelper lintian mmdebstrap $(APT)
APT_CONTAINER := mmdebstrap podman $(if $(filter 0,$(shell id -u)),,uidmap)
APT_BROWSER := chromium chromium-driver fonts-dejavu-core
# Groups of tests by machine, side by side; each test has a core of its own.
SIDE_BY_SIDE := -n auto --dist loadgroup --junitxml=out/tests.xml
UNIT := not machine and not browser and not notebook and not long
# Without bytecode files, pytest compiles each test file again in each run.
unexport PYTHONDONTWRITEBYTECODE
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Installs those of some Debian packages that are not there yet.
define apt_install
	@missing=$$(for package in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "this is no Debian; install the equivalents of: $$missing" >&2; exit 1; }; \
		echo "installing" $$missing; \
		export DEBIAN_FRONTEND=noninteractive; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-vagrant setup-test demo check test test-all matrix notebooks pictures man bench dist deb container clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/stamp ## install what machines need: .venv and Debian packages, QEMU's tools among them
	$(call apt_install,$(APT_MACHINES))

.venv/stamp: pyproject.toml Makefile
	$(call apt_install,$(APT))
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

setup-vagrant: setup ## also install Vagrant and libvirt
	$(call apt_install,$(APT_VAGRANT))

setup-test: setup-vagrant ## also install the browser that looks at the pages, and fetch Prometheus
	$(call apt_install,$(APT_BROWSER))
	$(PYTHON) -m tests.promtool

demo: setup ## boot a machine, make its NIC deaf, trace it, show the stall in out/demo
	$(PYTHON) -m vm.demo

# mypy runs beside the tests, since on a fresh tree it takes half a minute; what it found is printed after them.
check: .venv/stamp ## lint, types and unit tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports --no-cache
	mkdir -p out
	@trap 'wait; cat out/mypy.txt' EXIT; \
	.venv/bin/mypy >out/mypy.txt 2>&1 & types=$$!; \
	$(PYTHON) -m pytest -q -n auto -m '$(UNIT)' --ignore=tests/machine --ignore=tests/browser; \
	wait $$types

test: setup-test check ## everything, with machines: a quarter of an hour without KVM
	$(PYTHON) -m pytest -v $(SIDE_BY_SIDE) -m '(machine or browser or notebook or long) and not slow'
	$(PYTHON) -m tests.times out/tests.xml

test-all: setup-test check ## also the trials that take long
	$(call apt_install,$(APT_DEB))
	$(PYTHON) -m pytest -v $(SIDE_BY_SIDE) -m 'machine or browser or notebook or long'
	$(PYTHON) -m tests.times out/tests.xml

matrix: .venv/stamp ## check all drivers against Debian's kernel packages, into docs/kernels.md
	$(PYTHON) -m vm matrix -o docs/kernels.md

notebooks: .venv/stamp ## execute the notebooks of analysis/ into docs/notebooks
	$(PYTHON) -c 'import pathlib, toolkit.report.notebook as n; n.refresh(pathlib.Path("docs/notebooks"))'

pictures: setup-test ## draw the pictures of docs/images again (timeline.png: after `make demo`)
	$(PYTHON) -m tests.pictures

man: .venv/stamp ## make the manual pages in docs/man from the commands
	mkdir -p docs/man
	$(PYTHON) -m toolkit.manual docs/man

bench: setup ## the performance claims, each with its ratio
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(PYTHON) -m bench.drain
	$(PYTHON) -m bench.analyze
	$(PYTHON) -m bench.fleet
	$(PYTHON) -m bench.overhead
	$(PYTHON) -m bench.start
	$(PYTHON) -m bench.hooks
	$(PYTHON) -m bench.programs
	$(PYTHON) -m bench.qlge_nic
	$(SUDO) $(PYTHON) -m bench.segments

dist: .venv/stamp ## build sdist, wheel and (on Debian) the package in dist/; analyze a trace with each where it is new
	rm -rf dist out/dist
	mkdir -p dist out/dist
	$(PYTHON) -m hatchling build --target sdist --directory $(CURDIR)/dist
	tar -xf dist/rx_stall_toolkit-*.tar.gz -C out/dist --strip-components 1
	cd out/dist && $(CURDIR)/$(PYTHON) -m hatchling build --target wheel --directory $(CURDIR)/dist
	python3 -m venv out/dist/venv
	out/dist/venv/bin/pip install --quiet --disable-pip-version-check dist/rx_stall_toolkit-*.whl
	cd / && $(CURDIR)/out/dist/venv/bin/toolkit analyze $(CURDIR)/$(TRACE) -o $(CURDIR)/out/dist/tables | grep went
	if [ -e /etc/debian_version ]; then $(MAKE) deb; else ls -l dist; echo "this is no Debian: no package is built"; fi

deb: ## build a package for this release of Debian in dist/, and install, use and purge it on a fresh tree
	$(call apt_install,$(APT_DEB))
	mkdir -p dist
	rm -f dist/*.deb
	debian/build dist
	lintian --fail-on error dist/*.deb
	python3 -m tests.deb dist/*.deb "$$(. /etc/os-release && echo "$$VERSION_CODENAME")"
	ls -l dist

container: ## build the container image of the package in dist/ (`make deb`), and analyze a trace in it
	$(call apt_install,$(APT_CONTAINER))
	mkdir -p out/container
	rm -f out/container/root.tar
	docs/container/build dist/rx-stall-toolkit_*.deb out/container/root.tar
	$(SUDO) podman build -t rx-stall-toolkit -f docs/container/Containerfile out/container
	$(SUDO) podman run --rm --network none -v $(CURDIR)/$(dir $(TRACE)):/data:ro rx-stall-toolkit \
		analyze /data/$(notdir $(TRACE)) | grep went

clean: ## remove .venv, dist and out; images stay in the cache (python -m vm build --prune)
	rm -rf .venv dist out
