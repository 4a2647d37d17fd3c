-- Times are whole milliseconds since 1970-01-01T00:00:00Z, but for destroy_at: whole seconds, the epoch key's name.
-- Amounts are minor units of their ISO 4217 currency. Digests are HMAC-SHA256 under the customer's digest key.

CREATE TABLE relay (
    id                    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    connection_id         TEXT    NOT NULL,
    -- A digest of a constant, to recognise the digest key.
    digest_check          BLOB    CHECK (length(digest_check) = 32),
    cursor                TEXT    CHECK (json_valid(cursor)),
    known_until           INTEGER,
    dropped_past_deadline INTEGER NOT NULL DEFAULT 0,
    given_up              INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE orders (
    id                 INTEGER NOT NULL PRIMARY KEY,
    number_digest      BLOB    NOT NULL UNIQUE CHECK (length(number_digest) = 32),
    buyer_digest       BLOB    CHECK (length(buyer_digest) = 32),
    content_digest     BLOB    NOT NULL CHECK (length(content_digest) = 32),
    revision           INTEGER NOT NULL CHECK (revision >= 1),
    marketplace        TEXT    NOT NULL CHECK (marketplace IN ('amazon', 'ebay', 'bol')),
    status             TEXT    NOT NULL,
    marketplace_status TEXT    NOT NULL,
    fulfilment         TEXT    NOT NULL,
    sales_channel      TEXT,
    country            TEXT,
    placed_at          INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    first_shipped_at   INTEGER,
    total_minor        INTEGER,
    total_currency     TEXT    CHECK ((total_currency IS NULL) = (total_minor IS NULL)),
    tax_minor          INTEGER,
    tax_currency       TEXT    CHECK ((tax_currency IS NULL) = (tax_minor IS NULL)),
    deadline           INTEGER NOT NULL,
    destroy_at         INTEGER NOT NULL,
    pii                BLOB    NOT NULL,
    pii_key            BLOB    NOT NULL,
    volume_generation  INTEGER NOT NULL
) STRICT;

CREATE INDEX orders_by_buyer ON orders (buyer_digest) WHERE buyer_digest IS NOT NULL;
CREATE INDEX orders_by_destroy_at ON orders (destroy_at);
CREATE INDEX orders_by_placed_at ON orders (placed_at);

CREATE TABLE order_lines (
    order_id            INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    position            INTEGER NOT NULL CHECK (position >= 0),
    sku                 TEXT    NOT NULL,
    title               TEXT,
    product_id          TEXT,
    quantity            INTEGER NOT NULL CHECK (quantity >= 0),
    quantity_shipped    INTEGER NOT NULL CHECK (quantity_shipped >= 0),
    quantity_cancelled  INTEGER NOT NULL CHECK (quantity_cancelled >= 0),
    unit_price_minor    INTEGER,
    unit_price_currency TEXT    CHECK ((unit_price_currency IS NULL) = (unit_price_minor IS NULL)),
    total_minor         INTEGER,
    total_currency      TEXT    CHECK ((total_currency IS NULL) = (total_minor IS NULL)),
    tax_minor           INTEGER,
    tax_currency        TEXT    CHECK ((tax_currency IS NULL) = (tax_minor IS NULL)),
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;

-- One event per order waits at most: its newest revision.
CREATE TABLE outbox (
    sequence        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    order_id        INTEGER NOT NULL UNIQUE REFERENCES orders (id) ON DELETE CASCADE,
    revision        INTEGER NOT NULL,
    recorded_at     INTEGER NOT NULL,
    -- Of an event that the destination refused by itself; the others go on.
    refusals        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    in_message      INTEGER NOT NULL DEFAULT 0 CHECK (in_message IN (0, 1))
) STRICT;

CREATE INDEX outbox_due ON outbox (next_attempt_at, sequence);
CREATE INDEX outbox_in_message ON outbox (in_message) WHERE in_message = 1;

-- The message that is being sent, and how the destination takes them.
CREATE TABLE delivery (
    id                  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    message_id          TEXT,
    message_at          INTEGER CHECK ((message_at IS NULL) = (message_id IS NULL)),
    failures            INTEGER NOT NULL DEFAULT 0,
    next_attempt_at     INTEGER NOT NULL DEFAULT 0,
    -- Events in a row that were refused by themselves.
    refusals            INTEGER NOT NULL DEFAULT 0,
    -- Below the configured limit while the destination refuses larger messages.
    max_events          INTEGER CHECK (max_events >= 1),
    -- The destination, digested: a change of it starts everything anew.
    target              BLOB CHECK (length(target) = 32),
    -- It answered 410 Gone.
    disabled            INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

INSERT INTO delivery (id) VALUES (1);
