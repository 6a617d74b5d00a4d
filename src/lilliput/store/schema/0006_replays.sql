-- Answers that may be given again, packed by whoever keeps them. tenant: who may be given them; digest: of all that an
-- answer depends on. grp, vector: the requests that differ in their last words alone, and what those words mean; NULL
-- where nobody asks. Times are Unix seconds.
CREATE TABLE kept_answer (
  tenant TEXT NOT NULL,
  digest BLOB NOT NULL,
  answer BLOB NOT NULL,
  size INTEGER NOT NULL,
  made_at REAL NOT NULL,
  used_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  grp BLOB,
  vector BLOB,
  PRIMARY KEY (tenant, digest)
);

CREATE INDEX kept_answer_expires_at ON kept_answer (expires_at);
CREATE INDEX kept_answer_used_at ON kept_answer (used_at, size);
CREATE INDEX kept_answer_near ON kept_answer (tenant, grp, made_at) WHERE grp IS NOT NULL;

-- Idempotency keys, by the id of the API key that sent them. body: a digest of the request. answer: NULL while the
-- process `taken_by` is at work on it, and then ends_at is the end of its lease.
CREATE TABLE idempotency_key (
  owner TEXT NOT NULL,
  digest BLOB NOT NULL,
  body BLOB NOT NULL,
  taken_by TEXT NOT NULL,
  answer BLOB,
  ends_at REAL NOT NULL,
  PRIMARY KEY (owner, digest)
);

CREATE INDEX idempotency_key_ends_at ON idempotency_key (ends_at);
