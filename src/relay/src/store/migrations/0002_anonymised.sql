-- What is left of an order at the end of its personal data's time. No column can hold who bought, or which order it was:
-- no number, no digest, no day, no title, no reference to another row. Ids are random, so that they don't tell either
-- what was stored beside what.

CREATE TABLE anonymised_orders (
    id          INTEGER NOT NULL PRIMARY KEY,
    marketplace TEXT    NOT NULL CHECK (marketplace IN ('amazon', 'ebay', 'bol')),
    country     TEXT    CHECK (country GLOB '[A-Z][A-Z]'),
    month       TEXT    NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'),
    status      TEXT    NOT NULL,
    currency    TEXT    CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    total_minor INTEGER,
    tax_minor   INTEGER
) STRICT;

CREATE TABLE anonymised_lines (
    id               INTEGER NOT NULL PRIMARY KEY,
    marketplace      TEXT    NOT NULL CHECK (marketplace IN ('amazon', 'ebay', 'bol')),
    country          TEXT    CHECK (country GLOB '[A-Z][A-Z]'),
    month            TEXT    NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'),
    status           TEXT    NOT NULL,
    sku              TEXT    NOT NULL,
    quantity         INTEGER NOT NULL CHECK (quantity >= 0),
    currency         TEXT    CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    unit_price_minor INTEGER,
    total_minor      INTEGER,
    tax_minor        INTEGER
) STRICT;

-- Orders that were reduced.
ALTER TABLE relay ADD COLUMN anonymised INTEGER NOT NULL DEFAULT 0;
-- The first page was stored then: known_until, until a listing was read to its end.
ALTER TABLE relay ADD COLUMN begun_at INTEGER;
-- Nothing is sealed under an older volume key any more.
ALTER TABLE relay ADD COLUMN sealing_generation INTEGER NOT NULL DEFAULT 0;
-- The oldest volume key that anything in the database's files needs; absent until that was made sure once.
ALTER TABLE relay ADD COLUMN oldest_generation INTEGER;

-- Everything that says when a key is due, without reading the rows.
DROP INDEX orders_by_destroy_at;
CREATE INDEX orders_by_dates ON orders (destroy_at, placed_at, first_shipped_at);
