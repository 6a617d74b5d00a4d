-- Tasks, each as its JSON; revision: how often it was changed.
CREATE TABLE task (
  name text PRIMARY KEY,
  revision bigint NOT NULL,
  body bytea NOT NULL
);

-- Messages of rows, each kept once: digest is the SHA-256 of its bytes.
CREATE TABLE task_message (
  digest bytea PRIMARY KEY,
  body bytea NOT NULL
);

-- Captured and imported calls. body: the row's JSON without its messages; messages: their digests, in their order;
-- feedback, correction: as judged later. Times are Unix seconds.
CREATE TABLE task_row (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  task text NOT NULL,
  at double precision NOT NULL,
  key text NOT NULL,
  subject text NOT NULL,
  source text NOT NULL,
  body bytea NOT NULL,
  messages bytea[] NOT NULL,
  feedback double precision,
  correction text
);

CREATE INDEX task_row_task ON task_row (task, at, number);
CREATE INDEX task_row_key ON task_row (key);
CREATE INDEX task_row_subject ON task_row (subject) WHERE subject <> '';
CREATE INDEX task_row_messages ON task_row USING gin (messages);

-- Answers of students that were held against the teacher's: no text of either.
CREATE TABLE task_audit (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task text NOT NULL,
  student text NOT NULL,
  body bytea NOT NULL
);

CREATE INDEX task_audit_task ON task_audit (task, student, number);
