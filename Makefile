# Everything runs in the environment that tests/toolbox/toolbox.sh makes: this machine itself where it has libdnf5's
# bindings (Fedora, Debian forky), an isolated root elsewhere. `make help` lists the targets.

TOOLBOX := tests/toolbox/toolbox.sh
RUN := $(TOOLBOX) run
# another build host, where there is a Debian to make it of
ANOTHER := [ ! -e /etc/debian_version ] || TOOLBOX_SUITE=trixie TOOLBOX_NATIVE=0 $(TOOLBOX)
BUILD := build
UNIVERSE := $(BUILD)/universe
# what takes long is named, so that somebody mends it
PYTEST := python3 -m pytest --durations=15 --durations-min=10
# most tests wait for one program after another; those of a module share what it set up
SPREAD := -n auto --maxprocesses=4 --dist=loadscope

.DEFAULT_GOAL := help
.PHONY: help setup demo test e2e repro rootless-check emulated unit check bench run universe fuzz example format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make the environment (the other targets do it themselves)
	@$(TOOLBOX) create

demo: ## Compose a real operating system twice, serve it, pull it with the real ostree; leaves build/demo/repo
	@$(RUN) python3 -m tests.demo --output $(BUILD)/demo --universe $(UNIVERSE)

test: ## All tests but the slow ones, with all set-up
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)
	@$(TOOLBOX) need mkfs.ext4 e2fsprogs e2fsprogs
	@$(TOOLBOX) need mkfs.xfs xfsprogs xfsprogs
	@$(TOOLBOX) need mkfs.btrfs btrfs-progs btrfs-progs
	@$(TOOLBOX) need systemd-sysusers systemd-standalone-sysusers systemd-standalone-sysusers
	@$(TOOLBOX) need skopeo skopeo skopeo
	@$(TOOLBOX) need mkcomposefs composefs composefs
	@# not packaged everywhere: their tests then say so
	-@$(TOOLBOX) need bsdiff bsdiff bsdiff
	-@$(TOOLBOX) need umoci umoci umoci
	@# a service, which nobody wants started on the machine itself
	-@[ -d /run/systemd/system ] || $(TOOLBOX) need docker-registry docker-registry docker-distribution
	@$(RUN) $(PYTEST) $(SPREAD) tests

e2e: ## The slow tests, with all set-up: 450 packages beside dnf5, a disk that boots, upgrades and rolls back
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)
	@$(RUN) python3 -m tests.universe big --output $(UNIVERSE)
	@$(TOOLBOX) need qemu-system-x86_64 qemu-system-x86 qemu-system-x86-core
	@$(TOOLBOX) need mkfs.ext4 e2fsprogs e2fsprogs
	@$(TOOLBOX) need pivot_root util-linux-extra util-linux
	@# not packaged everywhere
	-@$(TOOLBOX) need qemu-aarch64 qemu-user qemu-user-static-aarch64
	@$(ANOTHER) create
	@# gigabytes, which a /tmp in memory does not hold
	@$(RUN) $(PYTEST) -n 2 --dist=loadscope -m slow --basetemp=$(BUILD)/e2e tests

rootless-check: ## Compose min and big as root and as an ordinary user: the same commit; and every rung of the sandbox
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)
	@$(RUN) python3 -m tests.universe big --output $(UNIVERSE)
	@$(RUN) $(PYTEST) -rP -m 'slow or not slow' -k ordinary --basetemp=$(BUILD)/rootless \
		tests/e2e/test_min.py tests/compat/workroot

emulated: ## The sandbox on the processors of other machines, in QEMU: MACHINES="aarch64 s390x"; half an hour for all four
	@$(TOOLBOX) need mmdebstrap mmdebstrap mmdebstrap
	@$(TOOLBOX) need qemu-system-aarch64 qemu-system-arm qemu-system-aarch64-core
	@$(TOOLBOX) need qemu-system-ppc64 qemu-system-ppc qemu-system-ppc-core
	@$(TOOLBOX) need qemu-system-riscv64 qemu-system-riscv qemu-system-riscv-core
	@$(TOOLBOX) need qemu-system-s390x qemu-system-s390x qemu-system-s390x-core
	@for each in $(or $(MACHINES),aarch64 ppc64le riscv64 s390x); do \
		$(RUN) tests/toolbox/emulate.sh $$each || exit; done

unit: ## The pure tests only, with fewer examples than in `make test`: seconds
	@$(RUN) $(PYTEST) $(SPREAD) --hypothesis-profile=quick tests/unit

check: ## Format, lint, types, import layers
	@$(RUN) ruff format --check compose tests
	@$(RUN) ruff check compose tests
	@$(RUN) mypy
	@$(RUN) $(PYTEST) -q tests/unit/test_layers.py

bench: ## Measure beside the peers, an hour and 60 GB of disk; ROWS="unchanged import", SET=min for less; writes build/bench.json
	@$(RUN) python3 -m tests.universe $(or $(SET),big) --output $(UNIVERSE)
	@$(RUN) python3 -m tests.bench --universe $(UNIVERSE) --set $(or $(SET),big) --output $(BUILD)/bench.json $(ROWS)

repro: ## Is the same commit made whatever is different around it: 450 packages, six times, and once on another host
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)
	@$(RUN) python3 -m tests.universe big --output $(UNIVERSE)
	@$(TOOLBOX) need pivot_root util-linux-extra util-linux
	@$(ANOTHER) create
	@$(RUN) $(PYTEST) -rP -m "slow or not slow" --basetemp=$(BUILD)/repro \
		tests/e2e/test_reproducible.py tests/e2e/test_offenders.py tests/e2e/test_another_host.py

fuzz: ## Coverage-guided fuzzing of every reader; SECONDS=600 for longer
	@$(RUN) python3 -m tests.fuzz --seconds $(or $(SECONDS),60)

example: ## Run an example on the demonstration's packages: make example NAME=flavours
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)
	@$(RUN) python3 -m tests.demo.example $(NAME) --output $(BUILD)/example --universe $(UNIVERSE)/min

run: ## Run the tool in the caller's directory: make run ARGS="tree x.yaml --repo=r"
	@TOOLBOX_CWD="$(PWD)" $(RUN) python3 -m compose $(ARGS)

universe: ## The RPM repository made of real packages, alone
	@$(RUN) python3 -m tests.universe min --output $(UNIVERSE)

format: ## Format the sources
	@$(RUN) ruff format compose tests
	@$(RUN) ruff check --fix compose tests

clean: ## Remove build/ (it belongs to root)
	@$(RUN) rm -rf $(BUILD)
