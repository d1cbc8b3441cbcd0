# Everything runs in .venv, which is made on first use from Python 3.11 or newer.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := .venv/.ready
# The quick part of the tests: of those that start programs, only some of each kind.
QUICK := -m '(quick or not (programs or slow)) and not (hosts or site)'
# Tests in a process more than there are processors, since they wait for programs; up to four. Else the first
# would be dealt a twelfth of all tests at once, among them all the long ones.
PARALLEL = -n $(shell $(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))') --maxschedchunk 64
# Else each of the hundreds of programs that the tests start would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo screenshots test test-all test-pythons retest check conformance hosts mcpb soak bench bench-peers bench-page generated format constraints browser strace docs tools

help: ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "Installing into .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) install --quiet --constraint constraints.txt pip
	@$(PIP) install --quiet --constraint constraints.txt --build-constraint constraints.txt \
		--editable '.[all]' --group dev
	@touch $@

# The nats command, and Prometheus's tool for rules, for the tests that run them; they are skipped without Go.
ifneq ($(shell command -v go),)
GO_TOOLS := .tools/nats .tools/promtool
endif

.tools/nats: tests/natscli/go.mod tests/natscli/go.sum
	@echo "Building the nats command (once) ..."
	@cd tests/natscli && go build -o ../../$@ github.com/nats-io/natscli/nats

# The tag leaves out the clients of all clouds, which take most of the time and do not matter for rules.
.tools/promtool: tests/alerts/go.mod tests/alerts/go.sum
	@echo "Building promtool (once) ..."
	@cd tests/alerts && go build -tags remove_all_sd -o ../../$@ github.com/prometheus/prometheus/cmd/promtool

# What others test an MCP server with. The conformance suite and the inspector bring their own Node;
# their tests are skipped without npm, as what the official program says of the bundle is. The SDK
# before mcp 2 must not meet the newer one. Hosts that install the bundle bring uv.
OUTSIDE := tests/mcpserver/outside
ifneq ($(shell command -v npm),)
MCP_TOOLS := .tools/mcp/.ready
endif
OLDER := .tools/older/.ready
UV := .tools/uv/.ready
UVX := .tools/uv/cache/.ready
# What the guide to mq9 exec hands messages to; it does not go with newer versions of what we need.
CELERY := .tools/celery/.ready
# Clients that others published: the newest one of NATS, which wants Python 3.13, and those of an older
# generation of mq9, of which one has this project's name.
CLIENTS := tests/clients
NEWER_PYTHON := $(shell for one in python3.14 python3.13 $$HOME/.pyenv/versions/3.1[3-9]*/bin/python; \
	do $$one -c '' 2>/dev/null && echo $$one && break; done)
ifneq ($(NEWER_PYTHON),)
NATS_CORE := .tools/nats-core/.ready
endif
ROBUSTMQ := .tools/robustmq/.ready
TOOLS := $(GO_TOOLS) $(MCP_TOOLS) $(OLDER) $(UV) $(UVX) $(NATS_CORE) $(ROBUSTMQ) $(CELERY)

.tools/mcp/.ready: $(addprefix $(OUTSIDE)/,package.json package-lock.json .npmrc)
	@echo "Installing the MCP conformance suite and inspector (once) ..."
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci
	@touch $@

.tools/older/.ready: $(OUTSIDE)/older.txt
	@echo "Installing a client on the older MCP SDK (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

.tools/nats-core/.ready: $(CLIENTS)/nats-core.txt
	@echo "Installing nats-core (once) ..."
	@rm -rf $(@D) && $(NEWER_PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

.tools/robustmq/.ready: $(CLIENTS)/robustmq.txt
	@echo "Installing clients of an older generation of mq9 (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

.tools/celery/.ready: $(CLIENTS)/celery.txt
	@echo "Installing Celery (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

.tools/uv/.ready: $(OUTSIDE)/uv.txt
	@echo "Installing uv (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

# What uvx wants of the network, so that the line of the README can be run without one.
$(UVX): $(UV) pyproject.toml
	@echo "Getting what uvx needs to run a clone (once) ..."
	@if UV_CACHE_DIR=$(@D) UV_PYTHON=$(<D)/bin/python $(<D)/bin/uvx --quiet --from '.[mcp]' mq9-mcp --help \
		>/dev/null; then touch $@; else echo "It did not get it; the test of that line is skipped."; fi

# Programs that start MCP servers, on the Node that came with the conformance suite. Their lock lacks the
# packages for systems on which it was not made, which npm ci would refuse. Two of them put their program
# in place by a script, which is run by name.
HOSTS := tests/hosts/outside
ifneq ($(shell command -v npm),)
HOST_TOOLS := .tools/hosts/.ready
endif

.tools/hosts/.ready: $(addprefix $(HOSTS)/,package.json package-lock.json .npmrc) | .tools/mcp/.ready
	@echo "Installing MCP hosts (once) ..."
	@mkdir -p $(@D) && cp $^ $(@D)
	@if cd $(@D) && PATH="$(CURDIR)/.tools/mcp/node_modules/.bin:$$PATH" && npm install && \
		npm rebuild --ignore-scripts=false opencode-ai @anthropic-ai/claude-code; \
		then touch .ready; else echo "They were not installed; their tests are skipped."; fi

# Frameworks whose agents call MCP servers, each with the dependencies that it wants.
FRAMEWORKS := $(patsubst tests/hosts/frameworks/%.txt,.tools/frameworks/%/.ready,$(wildcard tests/hosts/frameworks/*.txt))

.tools/frameworks/%/.ready: tests/hosts/frameworks/%.txt
	@echo "Installing $* (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@if $(@D)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<; \
		then touch $@; else echo "It was not installed; its tests are skipped."; fi

demo: $(READY) ## Two agents talk, one crashes, nothing is lost
	@$(BIN)/python examples/two_agents.py $(if $(MODEL),--model $(MODEL))

tools: $(TOOLS) ## Install what others made, for the tests that run it

test: $(READY) ## Run what shows most mistakes in the first minutes
	$(BIN)/python -m pytest $(PARALLEL) $(QUICK)

test-all: $(READY) $(TOOLS) ## Run all tests, and see that they cover the code
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	@echo "Per cent of the code that ran, at least 95:"
	$(BIN)/coverage report --format total

FAILED := .pytest_cache/v/cache/lastfailed
retest: $(READY) ## Run those tests by themselves that failed last, if they are no more than three
	@$(BIN)/python -c 'import json; exit(len(json.load(open("$(FAILED)"))) > 3)' || \
		{ echo "More than three tests failed."; exit 1; }
	@mkdir -p build && cp $(FAILED) build/retested
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none
	@echo "=== THESE TESTS FAILED ONCE AND THEN PASSED BY THEMSELVES. EACH IS A DEFECT, OF THE TEST OR OF THE CODE:"
	@$(BIN)/python -c 'import json; print(*json.load(open("build/retested")), sep="\n")'

# Each gets an environment of its own, as .venv is; the machine has to have the Python.
test-pythons: ## Run the quick part of the tests on every Python from 3.11 that is found
	@for version in 3.11 3.12 3.13 3.14 3.15; do \
		for python in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
			$$python -c '' 2>/dev/null || continue; \
			echo "=== Python $$version"; \
			$(MAKE) --no-print-directory PYTHON=$$python build/pythons/$$version/.ready && \
			build/pythons/$$version/bin/python -m pytest $(PARALLEL) $(QUICK) || exit 1; \
			break; \
		done; \
	done

build/pythons/%/.ready: pyproject.toml constraints.txt
	@echo "Installing into $(@D) (once) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt pip
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--build-constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

check: $(READY) ## Lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

conformance: $(READY) .tools/mcp/.ready ## The official conformance suite for MCP servers
	$(BIN)/python -m pytest tests/mcpserver/test_conformance.py

MCPB := .tools/mcp/node_modules/.bin/node .tools/mcp/node_modules/.bin/mcpb
mcpb: $(READY) $(MCP_TOOLS) ## Build the bundle that Claude Desktop installs with a click
	$(BIN)/python packaging/build_mcpb.py dist
ifdef MCP_TOOLS
	@rm -rf build/mcpb
	$(MCPB) unpack dist/mq9-mcp-$$($(BIN)/python -c 'from mq9.version import VERSION; print(VERSION)').mcpb build/mcpb
	$(MCPB) validate build/mcpb/manifest.json
endif

hosts: $(READY) $(HOST_TOOLS) $(FRAMEWORKS) ## Run MCP hosts and frameworks of others, and write their table in the docs
	$(BIN)/python -m pytest -m hosts tests/hosts; code=$$?; \
	$(BIN)/python -m tests.hosts.table docs/reference/mcp.md && exit $$code

soak: $(READY) ## The long versions of the kill, fuzz and model tests
	MQ9_TEST_SCALE=10 $(BIN)/python -m pytest -m soak --timeout 3600

# Each case starts what it needs and stops it; what it keeps, such as large files, is in build/bench.
bench: $(READY) ## Measure beside what others would pick: make bench ONLY=send ROUNDS=5 SCALE=0.1
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SCALE),--scale $(SCALE))

TABLE ?= build/bench/table.json
bench-page: $(READY) ## Write the figures of a run into docs/explanation/performance.md: make bench-page TABLE=FILE
	@$(BIN)/python -m benchmarks.page $(TABLE)

# Installs a program. $(1): its possible names, $(2): its package in Debian, $(3): what happens without
# it. Debian keeps no older versions, so none is pinned.
define from-debian
@for name in $(1); do command -v $$name >/dev/null && echo "$$name is installed." && exit; done; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing $(2) (once) ..."; \
	apt-get -qq update && \
	DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends --yes $(2) >/dev/null; \
else \
	echo "Install $(2); without it $(3)."; \
fi
endef

# Where services are started for installed packages, Debian starts redis-server as one. make bench
# starts its own.
bench-peers: $(READY) ## Install what make bench measures beside; redis-server on Debian, as root
	@$(PIP) install --quiet --constraint constraints.txt --group bench
	$(call from-debian,redis-server,redis-server,the table says that it is not installed)

browser: ## Chromium, for the tests that open a page; only on Debian, as root
	$(call from-debian,chromium google-chrome,chromium,those tests are skipped)

strace: ## strace, for the test that cuts the power; only on Debian, as root
	$(call from-debian,strace,strace,that test is skipped)

docs: $(READY) ## Build the documentation site into build/site, and open its pages in a browser
	@rm -rf build/site
	$(BIN)/zensical build --strict --clean
	$(BIN)/python -m pytest --quiet -m site
	@echo "Open build/site/index.html in a browser."

screenshots: $(READY) ## Take the pictures of the desk and of the terminal again
	@$(BIN)/python packaging/take_screenshots.py
	@$(BIN)/python packaging/draw_terminal.py

generated: $(READY) ## Write the files that are derived from others
	@$(BIN)/python packaging/write_catalog.py
	@$(BIN)/python packaging/write_pages.py
	@$(BIN)/python packaging/record_answers.py

format: $(READY) ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

constraints: ## Pin the newest versions of everything for development
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(PIP) install --quiet --upgrade pip
	@$(PIP) install --quiet --editable '.[all]' --group dev --group bench
	@$(PIP) freeze --all --exclude-editable > constraints.txt
