-- Money is integer nano-dollars (nusd), times are Unix seconds.
-- Who pays. past_nusd: spent in periods that are over. unpaid_nusd: spent before the first credits were paid in. So:
--   spent + past = the cost of all its entries, and credit + held + spent + past - unpaid = all its grants.
-- Rows are small and written often: room on the page keeps their new versions beside the old.
CREATE TABLE account (
  id text PRIMARY KEY,
  kind text NOT NULL DEFAULT 'key' CHECK (kind IN ('organisation', 'team', 'key')),
  parent text REFERENCES account (id),
  name text NOT NULL DEFAULT '',
  limit_nusd bigint CHECK (limit_nusd >= 0),
  period text NOT NULL DEFAULT 'total' CHECK (period IN ('total', 'day', 'week', 'month')),
  credit_nusd bigint,
  spent_nusd bigint NOT NULL DEFAULT 0 CHECK (spent_nusd >= 0),
  held_nusd bigint NOT NULL DEFAULT 0 CHECK (held_nusd >= 0),
  past_nusd bigint NOT NULL DEFAULT 0 CHECK (past_nusd >= 0),
  unpaid_nusd bigint NOT NULL DEFAULT 0,
  period_began double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

-- An account with all above it, as they stood when it was charged, itself first.
CREATE TABLE chain (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  accounts text[] NOT NULL UNIQUE
);

-- What requests that run may cost. A row leaves as it becomes an entry.
CREATE TABLE hold (
  id text PRIMARY KEY,
  chain bigint NOT NULL,
  amount_nusd bigint NOT NULL CHECK (amount_nusd >= 0),
  began_at double precision NOT NULL,
  lease_ends double precision NOT NULL,
  operation text NOT NULL,
  model text NOT NULL,
  tags text[] NOT NULL
);

CREATE INDEX hold_lease_ends ON hold (lease_ends);

-- What requests did cost, one row each, for ever. cost_nusd: NULL when no price was known; the tokens are in disjoint
-- buckets, NULL when the provider told none.
CREATE TABLE entry (
  id text PRIMARY KEY,
  chain bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('settled', 'released', 'unknown')),
  ended_at double precision NOT NULL,
  began_at double precision NOT NULL,
  amount_nusd bigint NOT NULL,
  cost_nusd bigint CHECK (cost_nusd >= 0),
  operation text NOT NULL,
  model text NOT NULL,
  tags text[] NOT NULL,
  served text NOT NULL,
  price text NOT NULL,
  tries integer NOT NULL,
  status integer NOT NULL,
  latency_ms bigint NOT NULL,
  first_token_ms bigint,
  left_early boolean NOT NULL,
  input bigint,
  cache_read bigint,
  cache_write_5m bigint,
  cache_write_1h bigint,
  audio_in bigint,
  image_in bigint,
  output bigint,
  reasoning bigint,
  audio_out bigint,
  image_out bigint
);

CREATE INDEX entry_chain_ended_at ON entry (chain, ended_at);

-- Credits paid in, or taken back when negative.
CREATE TABLE credit_grant (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account text NOT NULL REFERENCES account (id),
  amount_nusd bigint NOT NULL,
  note text NOT NULL,
  granted_at double precision NOT NULL
);

CREATE INDEX credit_grant_account ON credit_grant (account);
