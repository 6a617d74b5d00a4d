-- Tasks, each as its JSON; revision: how often it was changed.
CREATE TABLE task (
  name TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  body BLOB NOT NULL
) WITHOUT ROWID;

-- Messages of rows, each kept once: digest is the SHA-256 of its bytes.
CREATE TABLE task_message (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  body BLOB NOT NULL
);

-- Captured and imported calls. body: the row's JSON without its messages; feedback, correction: as judged later. Times
-- are Unix seconds.
CREATE TABLE task_row (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  task TEXT NOT NULL,
  at REAL NOT NULL,
  key TEXT NOT NULL,
  subject TEXT NOT NULL,
  source TEXT NOT NULL,
  body BLOB NOT NULL,
  feedback REAL,
  correction TEXT
);

CREATE INDEX task_row_task ON task_row (task, at, number);
CREATE INDEX task_row_key ON task_row (key);
CREATE INDEX task_row_subject ON task_row (subject) WHERE subject <> '';

-- Which messages a row has, in their order.
CREATE TABLE task_row_message (
  row INTEGER NOT NULL,
  place INTEGER NOT NULL,
  message INTEGER NOT NULL,
  PRIMARY KEY (row, place)
) WITHOUT ROWID;

CREATE INDEX task_row_message_message ON task_row_message (message);

-- They go with their row, and a message with the last row that has it.
CREATE TRIGGER task_row_gone AFTER DELETE ON task_row
BEGIN
  DELETE FROM task_row_message WHERE row = old.number;
END;

CREATE TRIGGER task_message_gone AFTER DELETE ON task_row_message
BEGIN
  DELETE FROM task_message
  WHERE id = old.message AND NOT EXISTS (SELECT 1 FROM task_row_message WHERE message = old.message);
END;

-- Answers of students that were held against the teacher's: no text of either.
CREATE TABLE task_audit (
  number INTEGER PRIMARY KEY,
  task TEXT NOT NULL,
  student TEXT NOT NULL,
  body BLOB NOT NULL
);

CREATE INDEX task_audit_task ON task_audit (task, student, number);
