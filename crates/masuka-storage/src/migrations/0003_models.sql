-- Installed base models: what the web form and the checks of requests are drawn from.
CREATE TABLE base_models (
    id TEXT PRIMARY KEY,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    facts TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- LoRA, imported or trained.
CREATE TABLE lora_models (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    model_type TEXT NOT NULL,
    base_model TEXT,
    trigger_word TEXT,
    notes TEXT,
    rank BIGINT,
    alpha DOUBLE PRECISION,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    format TEXT NOT NULL,
    metadata TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    training_session_id TEXT,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);
