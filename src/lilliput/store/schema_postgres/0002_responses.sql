-- Responses that callers may continue (`previous_response_id`), by the id of the key that asked. turn: the request and
-- its answer, packed by whoever keeps them. Times are Unix seconds.
CREATE TABLE response (
  owner text NOT NULL,
  id text NOT NULL,
  turn bytea NOT NULL,
  expires_at double precision NOT NULL,
  PRIMARY KEY (owner, id)
);

CREATE INDEX response_expires_at ON response (expires_at);

-- The items of those responses' outputs, which a later request may name by their ids; they go with their response.
CREATE TABLE response_item (
  owner text NOT NULL,
  id text NOT NULL,
  response text NOT NULL,
  PRIMARY KEY (owner, id),
  FOREIGN KEY (owner, response) REFERENCES response (owner, id) ON DELETE CASCADE
);

CREATE INDEX response_item_response ON response_item (owner, response);
