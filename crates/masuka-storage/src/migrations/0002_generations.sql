-- What a user asked for; the job of the same id says how far it is.
CREATE TABLE generations (
    id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    negative_prompt TEXT,
    base_model TEXT NOT NULL,
    parameters TEXT NOT NULL,
    report TEXT,
    favorite BOOLEAN NOT NULL DEFAULT FALSE,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);
CREATE INDEX generations_newest ON generations (created_at_ms, id);
CREATE INDEX generations_deleted ON generations (deleted_at_ms);

-- Which LoRA a generation uses, for filters and for refusing to delete one in use.
CREATE TABLE generation_loras (
    generation_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    PRIMARY KEY (generation_id, model_id)
);
CREATE INDEX generation_loras_of_model ON generation_loras (model_id, generation_id);

-- Published pictures: a row stands here only after the fenced finish of its job.
CREATE TABLE outputs (
    job_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    blob_key TEXT NOT NULL,
    thumbnail_key TEXT,
    seed BIGINT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job_id, position)
);
