-- What a process puts aside for the requests it runs is one row for each account, not one for each request: those are
-- in its journal, a file on its machine, until they end. Times are Unix seconds.
-- A hold of before has nobody left to settle it: it cost what it held.
UPDATE account SET spent_nusd = spent_nusd + held_nusd, held_nusd = 0;
INSERT INTO entry (
  id, chain, state, ended_at, began_at, amount_nusd, cost_nusd, operation, model, tags, served, price, tries, status,
  latency_ms, left_early
) SELECT id, chain, 'unknown', began_at, began_at, amount_nusd, amount_nusd, operation, model, tags, '', '', 0, 0, 0, false
FROM hold;
DROP TABLE hold;

-- landed: how many ends of its requests are entries by now. A row leaves when all are.
CREATE TABLE journal (
  id text PRIMARY KEY,
  landed bigint NOT NULL
) WITH (fillfactor = 20);

-- amount_nusd: held on every account of the chain, for requests that run and for those to come.
CREATE TABLE allotment (
  id text PRIMARY KEY,
  journal text NOT NULL,
  chain bigint NOT NULL,
  amount_nusd bigint NOT NULL CHECK (amount_nusd >= 0),
  lease_ends double precision NOT NULL
) WITH (fillfactor = 20);
CREATE INDEX allotment_journal ON allotment (journal);
