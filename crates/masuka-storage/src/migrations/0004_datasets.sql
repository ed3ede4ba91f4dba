-- Pictures and captions to train on.
CREATE TABLE datasets (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    trigger_word TEXT,
    metadata TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);

CREATE TABLE dataset_images (
    id TEXT PRIMARY KEY,
    dataset_id TEXT NOT NULL,
    file_name TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    thumbnail_key TEXT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    pixel_hash TEXT NOT NULL,
    caption TEXT,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);
CREATE INDEX dataset_images_in_order ON dataset_images (dataset_id, id);
-- No picture twice, but one that was deleted may come again.
CREATE UNIQUE INDEX dataset_images_once ON dataset_images (dataset_id, pixel_hash) WHERE deleted_at_ms IS NULL;
CREATE INDEX dataset_images_deleted ON dataset_images (deleted_at_ms);
