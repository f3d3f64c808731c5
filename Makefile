# The same verbs here and in CI. Each does all of its own set-up, and nothing when there is nothing to do.
#
#   make demo    a three-node cluster, a NodePort Service, real kubectl, a client outside
#   make test    the whole suite, the parts that need the kernel and kubectl included
#   make test-ipvs   what needs IPVS: in this kernel, or in a User-mode Linux one (NODEPORT_UML=/path/to/linux)
#   make uml-kernel  makes such a kernel out of Debian's linux-source
#   make lint    style, types, import contracts, size budgets
#   make bench   print measurements
#   make clients every kubectl from 1.20 on, the Python clients and helm; writes docs/reference/clients.md
#   make semantics  the packet suite in every proxy mode; writes docs/reference/service-semantics.md
#   make docs    write docs/_build/html
#   make lock    resolve the dependencies anew (for maintainers)

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
KUBECTL := .cache/kubectl/.ready
ARGS ?=
# What all modes have to pass is there for mode ipvs only: the others did so in `make test`. SCTP is there for all.
IPVS_TESTS := -k "ipvs or test_sctp or test_container_resources" $(addprefix tests/kernel/,test_ipvs.py test_ipvs_packets.py test_sctp.py \
	test_packet_suite.py test_proxy_runner.py test_proxy_switch.py test_conntrack.py \
	test_packet_options.py test_packets_under_way.py test_localhost_rows.py \
	test_kubeproxy_leftovers.py test_container_resources.py)

.PHONY: demo test test-ipvs uml-kernel lint bench clients semantics docs lock setup
.DEFAULT_GOAL := setup

setup: $(READY)

demo: $(READY) $(KUBECTL)
	@$(PY) tools/demo.py $(ARGS)

test: $(READY) $(KUBECTL)
	@tools/suite $(ARGS)

test-ipvs: $(READY)
	@$(PY) tools/uml.py run $(PY) -m pytest -q -p no:cacheprovider $(if $(ARGS),$(ARGS),$(IPVS_TESTS))

uml-kernel: $(READY)
	@$(PY) tools/uml.py build

lint: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet . || { echo "run: $(PY) -m ruff format ."; exit 1; }
	@$(PY) -m mypy
	@out=$$($(VENV)/bin/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }
	@$(PY) tools/budgets.py

bench: $(READY)
	@$(PY) bench/run.py $(ARGS)

clients: $(READY)
	@$(PY) tools/kubectl.py all >/dev/null
	@status=0; NODEPORT_KUBECTL=all NODEPORT_CLIENT_RESULTS=.cache/clients.json $(PY) -m pytest tests/clients $(ARGS) || status=1; \
		$(PY) tools/make_clients.py .cache/clients.json && exit $$status

# Mode ipvs in a kernel that has it, as in test-ipvs.
semantics: $(READY)
	@status=0; export SUITE=tests/kernel/test_packet_suite.py; mkdir -p .cache; \
	NODEPORT_PACKET_RESULTS=.cache/packets.json \
		$(PY) -m pytest -q $$SUITE -k "not (ipvs and real_packets)" $(ARGS) || status=1; \
	NODEPORT_PACKET_RESULTS=.cache/packets-ipvs.json $(PY) tools/uml.py run --write .cache \
		$(PY) -m pytest -q -p no:cacheprovider $$SUITE -k "ipvs and real_packets" $(ARGS) || status=1; \
	$(PY) tools/make_semantics.py .cache/packets.json .cache/packets-ipvs.json && exit $$status

docs: $(READY)
	@$(PY) tools/make_reference.py
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# The lock holds versions and hashes, and no address of any index.
lock: $(READY)
	@$(VENV)/bin/uv pip compile -q --universal --generate-hashes --extra dev --custom-compile-command "make lock" \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile -q --universal --generate-hashes -c requirements.lock --custom-compile-command "make lock" \
		--no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml -o requirements-runtime.lock

$(READY): tools/setup requirements.lock requirements-uv.lock pyproject.toml
	@tools/setup $(VENV)
	@touch $@

$(KUBECTL): tools/kubectl.py requirements-kubectl.lock | $(READY)
	@$(PY) tools/kubectl.py ends >/dev/null
	@touch $@
