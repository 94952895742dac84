# `make` prints the targets. Variables: DATA, WEIGHTS, RECIPE, INIT, KORNIA, SUBMISSION, MESSAGE, COMPETITION, PYTHON; e.g.
#   make train DATA=photos RECIPE=paper
# COMPETITION=animal-clef-2026 is typed with every target that needs Kaggle, and with predict, which then discovers;
# without it animal-clef-2025 is meant.
# AGAINST="paper=paper.csv baseline=baseline.json" puts other recipes' results next to the report's.
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

PYTHON ?= python3
DATA ?= data
WEIGHTS ?= weights
RECIPE ?=
INIT ?=
KORNIA ?=
SUBMISSION ?= build/submission.csv
MESSAGE ?=
COMPETITION ?=
AGAINST ?=

BIN := .venv/bin
INSTALLED := .venv/installed
REID := $(BIN)/python -m reid
ON_KAGGLE := $(BIN)/python kernel/kaggle_commands.py
SMOKE := build/smoke
FOR := $(if $(COMPETITION),--competition $(COMPETITION))

# The environment is made again only when the requirements change.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: $(PYTHON) is older than 3.11, which kaggle needs; name another: make PYTHON=python3.12'; exit 2; }
	@echo 'installing into .venv: a few minutes, 6 GB on Linux, where torch comes with its GPU libraries'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

install: $(INSTALLED) ## make .venv with everything in it

# How long a stage took goes into a list that the smoke run prints at its end, in whole seconds: macOS has no others.
timed = start=$$(date +%s); $(2) && echo "$(1) $$start $$(date +%s)" >> $(SMOKE)/times

smoke: $(INSTALLED) ## the whole main job on a toy world: draw, train, predict, score, report, discover, dry run
	@rm -rf $(SMOKE) && mkdir -p $(SMOKE)
	@$(call timed,draw,$(REID) toy $(SMOKE)/data)
	@$(call timed,check,$(REID) check $(SMOKE)/data)
	@$(call timed,train,$(REID) train $(SMOKE)/data --out $(SMOKE)/weights --recipe toy)
	@$(call timed,predict,$(REID) predict $(SMOKE)/data --weights $(SMOKE)/weights --out $(SMOKE)/submission.csv)
	@$(call timed,report,$(REID) report $(SMOKE)/data --weights $(SMOKE)/weights --out $(SMOKE)/report \
	  --solution $(SMOKE)/data/solution.csv)
	@$(call timed,score,$(REID) score $(SMOKE)/submission.csv $(SMOKE)/data/solution.csv)
	@$(call timed,discover,$(REID) toy $(SMOKE)/unnamed --unlabelled && $(REID) discover $(SMOKE)/unnamed \
	  --weights $(SMOKE)/weights --out $(SMOKE)/clusters.csv --report $(SMOKE)/clusters \
	  --solution $(SMOKE)/unnamed/solution.csv && $(REID) score $(SMOKE)/clusters.csv $(SMOKE)/unnamed/solution.csv)
	@$(call timed,kernel,$(BIN)/python kernel/bundle.py --out build/kernel && $(ON_KAGGLE) dry-run \
	  --data $(SMOKE)/data --weights $(SMOKE)/weights --submission $(SMOKE)/submission.csv)
	@awk '{s = $$3 - $$2; sum += s; printf "%-8s %6d s\n", $$1, s} END {printf "%-8s %6d s\n", "total", sum}' \
	  $(SMOKE)/times
	@echo "submission: $(SMOKE)/submission.csv   report: $(SMOKE)/report/report.html"
	@echo "clusters: $(SMOKE)/clusters.csv   report: $(SMOKE)/clusters/report.html"

# A process per core, each with one thread: threads of several processes on one core wait for each other. The folder's
# name is short, because the sockets of processes that tests start lie in it, and their names may have 107 characters.
test: $(INSTALLED) ## all tests
	@folder=$$(mktemp -d /tmp/XXXXXX) && OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --basetemp=$$folder/t; \
	  status=$$?; rm -rf $$folder; exit $$status

bench: $(INSTALLED) ## measure the kit against its peers; tables and plots into build/bench
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/run.py

lint: $(INSTALLED) ## style, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Checked before anything is installed; a name with spaces is typed DATA="'my photographs'".
has-data:
	@for file in $(DATA)/metadata.csv; do test -e "$$file" || { echo "error: $(DATA): expected a folder with metadata.csv, \
	found none there; name yours with DATA=FOLDER (with spaces in it: DATA=\"'my photographs'\"), or download the \
	competition's with make data" >&2; exit 2; }; done

train: has-data $(INSTALLED) ## train RECIPE (if none: the default) on DATA into WEIGHTS
	$(REID) train $(DATA) --out $(WEIGHTS) $(if $(RECIPE),--recipe $(RECIPE)) $(if $(INIT),--init $(INIT))

predict: has-data $(INSTALLED) ## the submission for DATA's queries
	$(REID) $(if $(filter %-2026,$(COMPETITION)),discover,predict) $(DATA) --weights $(WEIGHTS) --out $(SUBMISSION)

report: has-data $(INSTALLED) ## score, thresholds and matches as a page
	$(REID) report $(DATA) --weights $(WEIGHTS) --out build/report \
	  $(if $(shell test -e $(DATA)/solution.csv && echo there),--solution $(DATA)/solution.csv) $(addprefix --against ,$(AGAINST))

kernel: $(INSTALLED) ## bundle what Kaggle runs into one script
	$(BIN)/python kernel/bundle.py --out build/kernel

data: $(INSTALLED) ## download the competition into DATA and check it
	$(ON_KAGGLE) data $(FOR) --data $(DATA)
	$(REID) check $(DATA)

push-weights: $(INSTALLED) ## upload WEIGHTS as a private Kaggle dataset
	$(ON_KAGGLE) push-weights $(FOR) --weights $(WEIGHTS)

push-kernel: $(INSTALLED) ## bundle, dry run on a toy world, push to Kaggle
	$(ON_KAGGLE) push-kernel $(FOR) --weights $(WEIGHTS) $(if $(KORNIA),--kornia $(KORNIA))

kernel-status: $(INSTALLED) ## wait until the pushed kernel has ended
	$(ON_KAGGLE) kernel-status $(FOR)

kernel-output: $(INSTALLED) ## download and check what the kernel wrote
	$(ON_KAGGLE) kernel-output $(FOR) --data $(DATA)

# Without SUBMISSION= it is the kernel's own output.
submit: $(INSTALLED) ## check a submission and submit it
	$(ON_KAGGLE) submit $(FOR) --data $(DATA) $(if $(filter command environment,$(firstword $(origin SUBMISSION))),--submission $(SUBMISSION)) \
	  $(if $(MESSAGE),--message "$(MESSAGE)")

clean: ## remove what make made, but not the weights
	rm -rf build .venv

.PHONY: help install smoke test bench lint train predict report \
  kernel data push-weights push-kernel kernel-status kernel-output submit clean
.PHONY: has-data
