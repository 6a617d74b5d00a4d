-- The account above a key: who pays with it, and whose limits it shares. Empty: it stands alone.
ALTER TABLE api_key ADD COLUMN team TEXT NOT NULL DEFAULT '';
