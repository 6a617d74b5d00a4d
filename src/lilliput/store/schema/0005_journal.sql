-- What a process puts aside for the requests it runs is one row for each account, not one for each request: those are
-- in its journal, a file beside the database, until they end. Times are Unix seconds.
-- A hold of before has nobody left to settle it: it cost what it held.
UPDATE account SET spent_nusd = spent_nusd + held_nusd, held_nusd = 0;
INSERT INTO entry (
  id, chain, state, ended_at, began_at, amount_nusd, cost_nusd, operation, model, tags, served, price, tries, status,
  latency_ms, left_early
) SELECT id, chain, 'unknown', began_at, began_at, amount_nusd, amount_nusd, operation, model, tags, '', '', 0, 0, 0, 0
FROM hold;
DROP TABLE hold;

-- landed: how many ends of its requests are entries by now. A row leaves when all are.
CREATE TABLE journal (
  id TEXT PRIMARY KEY,
  landed INTEGER NOT NULL
) WITHOUT ROWID;

-- amount_nusd: held on every account of the chain, for requests that run and for those to come.
CREATE TABLE allotment (
  id TEXT PRIMARY KEY,
  journal TEXT NOT NULL,
  chain INTEGER NOT NULL REFERENCES chain (n),
  amount_nusd INTEGER NOT NULL CHECK (amount_nusd >= 0),
  lease_ends REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX allotment_journal ON allotment (journal);
