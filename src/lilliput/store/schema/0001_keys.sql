-- A statement ends at the end of a line. Applied files are never edited: their checksum is on record.

-- Facts about the database itself, such as which pepper its digests were made under.
CREATE TABLE note (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

-- digest: HMAC-SHA256 of the whole token under the pepper. models: a JSON array of names, empty = all.
-- Times are Unix seconds.
CREATE TABLE api_key (
  id TEXT PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
  name TEXT NOT NULL,
  models TEXT NOT NULL,
  created_at REAL NOT NULL,
  expires_at REAL,
  revoked_at REAL,
  local INTEGER NOT NULL CHECK (local IN (0, 1))
);
