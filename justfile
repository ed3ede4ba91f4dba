# Every command of the project. `just` alone lists them; those marked * are also scripts that need no `just`.

_list:
    @just --list --unsorted

# * Everything that must hold before a change lands
check:
    ./check

# * Build MASUKA and run it
studio *arguments:
    ./studio {{ arguments }}

# * Build the web page into web/dist, from where cargo takes it
build-web:
    scripts/build-web

# The web page in development, over a server at MASUKA_SERVER (http://127.0.0.1:8000)
dev-web: build-web
    npm --prefix web run dev

# Write down the HTTP interface, from which the page's client is made
openapi:
    cargo run --quiet --locked --package masuka -- openapi > web/openapi.json

# Build the release binary: target/release/masuka
build: build-web
    cargo build --release --locked --package masuka

# Run the tests, all or those of a filter
test *filter:
    cargo test --workspace --locked {{ filter }}

# kill -9 at random for 100 rounds, and workers that stand still beyond their lease; some minutes
test-faults rounds="100":
    MASUKA_FAULT_ROUNDS={{ rounds }} cargo test --locked --package masuka --test service faults -- --include-ignored

# The storage's tests on a PostgreSQL of their own
test-postgres:
    scripts/with-postgres cargo test --locked --workspace --test storage

# A model as wide as FLUX.1-dev, made by diffusers in a minute (2.5 GB) and held against it
test-flux-shaped:
    scripts/install/python .venv fixtures/requirements.txt
    test -e fixtures/flux_shaped/out/expected.safetensors || .venv/bin/python fixtures/flux_shaped/make.py
    cargo test --locked --package masuka-diffusion --test flux_shaped -- --include-ignored --nocapture

# Gradients on a model as wide as FLUX.1-dev, which PyTorch + PEFT makes in a minute (2.2 GB) and is held against
test-training-slice:
    scripts/install/python .venv fixtures/requirements.txt
    test -e target/training_slice/gradients.safetensors || .venv/bin/python fixtures/training/make.py --slice target/training_slice
    cargo test --locked --package masuka-training --test gradients -- --ignored a_slice --nocapture

# The storage's tests on an S3 server of their own (SeaweedFS)
test-s3:
    scripts/with-s3 cargo test --locked --workspace --test storage

# Signals between machines by NATS, on servers of the tests' own
test-nats:
    scripts/with-nats cargo test --locked --workspace --test storage nats

# A thousand jobs: memory and open files stay as they are; some minutes
test-soak:
    cargo test --locked --package masuka --test service soak -- --ignored --nocapture

# Schemathesis against the HTTP interface: no 5xx, answers as the OpenAPI document says
test-schema *arguments:
    scripts/test-schema {{ arguments }}

# Clippy and formatting, as CI sees them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Put the code into its form
fmt:
    cargo fmt --all

# The API documentation, opened in a browser
doc:
    cargo doc --workspace --no-deps --locked --open

# * Compile the `cuda` feature with nvcc from the Python index; no card needed, about 20 minutes
check-cuda:
    scripts/check-cuda

# * The card's kernels and the parity tests on an NVIDIA card; needs the CUDA toolkit
test-cuda:
    cargo test --release --locked --package masuka --package masuka-diffusion --features masuka/cuda --lib ops::cuda
    MASUKA_DEVICE=cuda cargo test --release --locked --package masuka --package masuka-diffusion --features masuka/cuda --test flux_transformer --test autoencoder_kl --test text_encoders --test flux_pipeline --test lora_formats --test gguf

# The kernels' plain loops and their threads under Miri: no undefined behaviour, no data race; needs rustup. The pool's helpers outlive the tests, which Miri calls a leak
miri *filter:
    rustup toolchain install nightly --profile minimal --component miri,rust-src
    MIRIFLAGS="-Zmiri-deterministic-floats -Zmiri-ignore-leaks" cargo +nightly miri test --locked --package masuka-kernels --lib -- {{ filter }}

# The kernels' tests, on every level that the processor has, under AddressSanitizer, which sees all but inline assembly; needs rustup
sanitize *filter:
    rustup toolchain install nightly --profile minimal
    RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --locked --package masuka-kernels --lib --target {{ arch() }}-unknown-linux-gnu -- {{ filter }}

# The kernels compile for aarch64, without a warning
check-aarch64:
    rustup target add aarch64-unknown-linux-gnu
    RUSTFLAGS="-D warnings" cargo check --locked --package masuka-kernels --target aarch64-unknown-linux-gnu

# * Compare speed with diffusers on the same weights, in one session; writes docs/benchmarks.md
bench *arguments:
    bench/run {{ arguments }}

# Time the kernels of the processor beside its peak; a filter such as avx512/bf16 picks some
bench-kernels *filter:
    cargo bench --package masuka-kernels -- {{ filter }}

# Train the starter on the blueprint icons, with and without prior preservation, judge what it draws on objects that it has not seen, write docs/images/blueprint-held-out.png; two trainings
proof-style:
    mkdir -p target/learning
    cargo run --release --locked --package masuka -- train fixtures/datasets/blueprint/train --trigger TOK --restart -o target/learning/plain.safetensors
    cargo run --release --locked --package masuka -- train fixtures/datasets/blueprint/train --trigger TOK --prior --restart -o target/learning/prior.safetensors
    cargo run --release --locked --package masuka-training --example prove_style -- fixtures/datasets/blueprint TOK target/learning/held_out.png target/learning/plain.safetensors target/learning/prior.safetensors
    cp target/learning/held_out.png docs/images/blueprint-held-out.png

# Make a fixture again: just fixture clip
fixture case:
    scripts/install/python .venv fixtures/requirements.txt
    .venv/bin/python fixtures/{{ case }}/make.py
