# One environment in .venv, made from constraints.txt, for every target. Without make: see README.md, "Without make".
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Every study that ships, on the embedded scenes. There a ladder climbs from short trainings, not from frozen backbones,
# and earlier systems and other encoders, which are large whatever the preset, train for an epoch or three on the small
# pictures of the preset.
ladder_on_embedded := --set 'ladder=[{training.epochs: 6}, demo]'
systems_on_embedded := --set training.epochs=3 --set pictures.preparation=settings
encoders_on_embedded := --set training.epochs=1 --set pictures.preparation=settings --set 'seeds=[0]'
# Tables I to IV are one run besides (`make paper`), which takes over what the single studies have trained.
STUDIES := lambda k_mode modules modality systems encoders fusion joint readings retuned ladder

.PHONY: demo tables paper test test-all check reference bench soak faults clean

demo: $(VENV)/.installed  ## install and run the first study on the embedded scenes
	$(BIN)/avsc-search run studies/lambda.yaml

tables: $(addprefix table-,$(STUDIES))  ## run every study on the embedded scenes and write its report into reports/

table-%: $(VENV)/.installed
	$(BIN)/avsc-search run studies/$*.yaml $($*_on_embedded)
	$(BIN)/avsc-search report $*

paper: table-paper  ## run Tables I to IV of the paper as one study, and write their report

# As many workers as cores, so one torch thread in each, and no thread that spins while it waits.
test test-all: export OMP_NUM_THREADS := 1
test test-all: export OMP_WAIT_POLICY := PASSIVE
# A worker that dies ends the run: pytest-xdist would wait for its files without end.
WORKERS := -n auto --maxprocesses 4 --max-worker-restart 0
test: $(VENV)/.installed-test  ## install with the test extra and run the tests but for the slow ones
	$(BIN)/python -m pytest $(WORKERS)

test-all: $(VENV)/.installed-test  ## the same with the slow ones, which take minutes each
	$(BIN)/python -m pytest -m "" $(WORKERS)

check: $(VENV)/.installed-test  ## lint, format, types, and how dense the code is
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.density

reference: $(VENV)/.installed-test  ## write the schema of study files and the page of all settings from the code
	$(BIN)/python docs/reference.py

bench: $(VENV)/.installed-test  ## every benchmark; results beside the table in benchmarks/
	$(BIN)/python -m benchmarks

soak: $(VENV)/.installed-test  ## a study of 1,000 tiny trials, and by how much it grows (10 min)
	$(BIN)/python -m benchmarks.soak

# One thread a process, so that faults strike training and not a wait for the other core.
faults: export OMP_NUM_THREADS := 1
faults: $(VENV)/.installed-test  ## disturb a study in hundreds of ways: what is lost? About an hour; goes on where it was cut
	$(BIN)/python -m benchmarks.faults

clean:  ## remove the environment and tool caches, never the record
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
