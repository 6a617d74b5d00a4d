-- Applied files are never edited: their checksum is on record. Times are Unix seconds.

-- Facts about the database itself, such as which pepper its digests were made under.
CREATE TABLE note (
  name text PRIMARY KEY,
  value bytea NOT NULL
);

-- Counts the changes to the keys. Whoever changes a key takes its one row first and holds it until the commit, so
-- numbers come out in the order in which they are taken, and a reader that has seen one has missed none before it.
CREATE TABLE key_change (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number bigint NOT NULL
);
INSERT INTO key_change (number) VALUES (0);

-- digest: HMAC-SHA256 of the whole token under the pepper. models: a JSON array of names, empty = all.
-- team: the account above the key, '' when it stands alone. change: the number in key_change when this row was written.
CREATE TABLE api_key (
  id text PRIMARY KEY,
  digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
  name text NOT NULL,
  team text NOT NULL,
  models text NOT NULL,
  created_at double precision NOT NULL,
  expires_at double precision,
  revoked_at double precision,
  local boolean NOT NULL,
  change bigint NOT NULL
);

CREATE INDEX api_key_change ON api_key (change);
