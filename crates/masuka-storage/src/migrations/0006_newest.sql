-- The list filters by `deleted_at_ms IS NULL`, which is nearly every row: an index that holds those is taken by SQLite
-- instead of the one in the list's order, and every page then sorts the whole table.
DROP INDEX generations_deleted;
CREATE INDEX generations_deleted ON generations (deleted_at_ms) WHERE deleted_at_ms IS NOT NULL;
