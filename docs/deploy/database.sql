-- Creates the ledger's database and the servers' user in it. PostgreSQL's administrator runs it once:
-- DATABASE_PASSWORD=… psql --file database.sql
\set ON_ERROR_STOP on
\getenv password DATABASE_PASSWORD
CREATE ROLE sora_mcp LOGIN PASSWORD :'password';
CREATE DATABASE sora_mcp OWNER sora_mcp ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE sora_mcp FROM PUBLIC;
