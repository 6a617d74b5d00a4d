-- Money is integer nano-dollars (nusd), times are Unix seconds.
-- Who pays. past_nusd: spent in periods that are over. unpaid_nusd: spent before the first credits were paid in. So:
--   spent + past = the cost of all its entries, and credit + held + spent + past - unpaid = all its grants.
CREATE TABLE account (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('organisation', 'team', 'key')),
  parent TEXT REFERENCES account (id),
  name TEXT NOT NULL,
  limit_nusd INTEGER CHECK (limit_nusd >= 0),
  period TEXT NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
  credit_nusd INTEGER,
  spent_nusd INTEGER NOT NULL CHECK (spent_nusd >= 0),
  held_nusd INTEGER NOT NULL CHECK (held_nusd >= 0),
  past_nusd INTEGER NOT NULL CHECK (past_nusd >= 0),
  unpaid_nusd INTEGER NOT NULL,
  period_began REAL NOT NULL
) WITHOUT ROWID;

-- An account with all above it, as they stood when it was charged: a JSON array of ids, itself first.
CREATE TABLE chain (
  n INTEGER PRIMARY KEY,
  accounts TEXT NOT NULL UNIQUE
);

-- What requests that run may cost. A row leaves as it becomes an entry. tags: a JSON array.
CREATE TABLE hold (
  id TEXT PRIMARY KEY,
  chain INTEGER NOT NULL REFERENCES chain (n),
  amount_nusd INTEGER NOT NULL CHECK (amount_nusd >= 0),
  began_at REAL NOT NULL,
  lease_ends REAL NOT NULL,
  operation TEXT NOT NULL,
  model TEXT NOT NULL,
  tags TEXT NOT NULL
) WITHOUT ROWID;

-- What requests did cost, one row each, for ever. state: settled, released or unknown (not checked here: that took a
-- third of the insert's time). cost_nusd: NULL when no price was known; the tokens are in disjoint
-- buckets, NULL when the provider told none.
CREATE TABLE entry (
  id TEXT PRIMARY KEY,
  chain INTEGER NOT NULL REFERENCES chain (n),
  state TEXT NOT NULL,
  ended_at REAL NOT NULL,
  began_at REAL NOT NULL,
  amount_nusd INTEGER NOT NULL,
  cost_nusd INTEGER CHECK (cost_nusd >= 0),
  operation TEXT NOT NULL,
  model TEXT NOT NULL,
  tags TEXT NOT NULL,
  served TEXT NOT NULL,
  price TEXT NOT NULL,
  tries INTEGER NOT NULL,
  status INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  first_token_ms INTEGER,
  left_early INTEGER NOT NULL,
  input INTEGER,
  cache_read INTEGER,
  cache_write_5m INTEGER,
  cache_write_1h INTEGER,
  audio_in INTEGER,
  image_in INTEGER,
  output INTEGER,
  reasoning INTEGER,
  audio_out INTEGER,
  image_out INTEGER
) WITHOUT ROWID;

CREATE INDEX entry_chain_ended_at ON entry (chain, ended_at);

-- Credits paid in, or taken back when negative.
CREATE TABLE credit_grant (
  n INTEGER PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (id),
  amount_nusd INTEGER NOT NULL,
  note TEXT NOT NULL,
  granted_at REAL NOT NULL
);

CREATE INDEX credit_grant_account ON credit_grant (account);
