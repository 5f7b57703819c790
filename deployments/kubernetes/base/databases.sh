#!/bin/sh
# One database each for the ledger, Prefect and MLflow, whose owner cannot reach the other two; and for the dashboard a role
# that reads the ledger, and does nothing else.
# PostgreSQL's image runs this once, when its data folder is empty. Passwords never are arguments.
set -eu

make_database() {
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$1" --set variable="$2" <<'SQL'
\getenv password :variable
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

make_database quorumlab LEDGER_PASSWORD
make_database prefect PREFECT_DATABASE_PASSWORD
make_database mlflow MLFLOW_DATABASE_PASSWORD

psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname quorumlab <<'SQL'
\getenv password DASHBOARD_DATABASE_PASSWORD
CREATE ROLE dashboard LOGIN PASSWORD :'password';
GRANT CONNECT ON DATABASE quorumlab TO dashboard;
ALTER DEFAULT PRIVILEGES FOR ROLE quorumlab GRANT SELECT ON TABLES TO dashboard;
SQL
