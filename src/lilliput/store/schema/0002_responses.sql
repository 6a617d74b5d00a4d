-- Responses that callers may continue (`previous_response_id`), by the id of the key that asked. turn: the request and
-- its answer, packed by whoever keeps them. Times are Unix seconds.
CREATE TABLE response (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  turn BLOB NOT NULL,
  expires_at REAL NOT NULL,
  PRIMARY KEY (owner, id)
);

CREATE INDEX response_expires_at ON response (expires_at);

-- The items of those responses' outputs, which a later request may name by their ids.
CREATE TABLE response_item (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  response TEXT NOT NULL,
  PRIMARY KEY (owner, id)
) WITHOUT ROWID;

CREATE INDEX response_item_response ON response_item (owner, response);

-- They go with their response.
CREATE TRIGGER response_gone AFTER DELETE ON response
BEGIN
  DELETE FROM response_item WHERE owner = old.owner AND response = old.id;
END;
