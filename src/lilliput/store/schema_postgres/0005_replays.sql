-- Answers that may be given again, packed by whoever keeps them. tenant: who may be given them; digest: of all that an
-- answer depends on. grp, vector: the requests that differ in their last words alone, and what those words mean; NULL
-- where nobody asks. Times are Unix seconds.
CREATE TABLE kept_answer (
  tenant text NOT NULL,
  digest bytea NOT NULL,
  answer bytea NOT NULL,
  size bigint NOT NULL,
  made_at double precision NOT NULL,
  used_at double precision NOT NULL,
  expires_at double precision NOT NULL,
  grp bytea,
  vector bytea,
  PRIMARY KEY (tenant, digest)
);

CREATE INDEX kept_answer_expires_at ON kept_answer (expires_at);
CREATE INDEX kept_answer_used_at ON kept_answer (used_at, size);
CREATE INDEX kept_answer_near ON kept_answer (tenant, grp, made_at) WHERE grp IS NOT NULL;

-- Idempotency keys, by the id of the API key that sent them. body: a digest of the request. answer: NULL while the
-- process `taken_by` is at work on it, and then ends_at is the end of its lease.
CREATE TABLE idempotency_key (
  owner text NOT NULL,
  digest bytea NOT NULL,
  body bytea NOT NULL,
  taken_by text NOT NULL,
  answer bytea,
  ends_at double precision NOT NULL,
  PRIMARY KEY (owner, digest)
);

CREATE INDEX idempotency_key_ends_at ON idempotency_key (ends_at);
