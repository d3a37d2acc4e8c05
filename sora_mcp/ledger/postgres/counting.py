"""How PostgreSQL maintains the sums of videos that `sql/counting.py` reads.

Triggers insert each change of a sum into `video_counts` as a new row, so that two servers never wait for each other
there. Now and then an insert merges the rows of an account.
"""

from __future__ import annotations

from sora_mcp.ledger.sql.counting import GROUP, SUMS

_INSERTS_PER_COMPACTION = 32
"""Inserts after which the rows of an account are merged, on average."""


def _share(row: str, sign: str = "") -> str:
    """Return what a row of `videos` adds to its group, by the gateway's own figure if there is one."""
    money = f"coalesce({row}.stated, {row}.estimate)"
    columns = ", ".join(f"{row}.{name}" for name in ("gateway", "address", "key_fingerprint", "owner", "state"))
    return (
        f"{columns}, CASE WHEN {row}.stated IS NOT NULL THEN {row}.stated_currency"
        f" WHEN {row}.estimate IS NOT NULL THEN {row}.currency END AS currency, {sign}1 AS videos,"
        f" {sign}CASE WHEN {money} IS NULL THEN coalesce({row}.cost, 0)::numeric ELSE 0 END AS relative,"
        f" {sign}greatest({money}, 0)::numeric AS billionths,"
        f" {sign}CASE WHEN {money} IS NULL AND {row}.cost IS NULL THEN 1 ELSE 0 END AS unpriced"
    )


TABLES = f"""
    CREATE TABLE video_counts (
        gateway TEXT COLLATE "C" NOT NULL,
        address TEXT COLLATE "C" NOT NULL,
        key_fingerprint TEXT COLLATE "C" NOT NULL,
        owner TEXT COLLATE "C" NOT NULL,
        state TEXT COLLATE "C" NOT NULL,
        currency TEXT,
        videos BIGINT NOT NULL,
        relative NUMERIC NOT NULL,
        billionths NUMERIC NOT NULL,
        unpriced BIGINT NOT NULL
    );
    CREATE INDEX video_counts_of ON video_counts (owner, gateway);
    CREATE FUNCTION count_new_videos() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO video_counts SELECT {GROUP}, {SUMS}
            FROM (SELECT {_share("added")} FROM added WHERE merged_into IS NULL) AS shares GROUP BY {GROUP};
        IF random() * {_INSERTS_PER_COMPACTION} < 1 THEN
            WITH parts AS (
                DELETE FROM video_counts WHERE ctid IN (
                    SELECT ctid FROM video_counts
                    WHERE (owner, gateway) IN (SELECT owner, gateway FROM added) FOR UPDATE SKIP LOCKED
                ) RETURNING *
            )
            INSERT INTO video_counts SELECT {GROUP}, {SUMS} FROM parts GROUP BY {GROUP} HAVING sum(videos) != 0;
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION count_changed_video() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.merged_into IS NULL THEN
            INSERT INTO video_counts SELECT {_share("OLD", "-")};
        END IF;
        IF TG_OP = 'UPDATE' AND NEW.merged_into IS NULL THEN
            INSERT INTO video_counts SELECT {_share("NEW")};
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER videos_added AFTER INSERT ON videos REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION count_new_videos();
    CREATE TRIGGER videos_changed AFTER UPDATE ON videos FOR EACH ROW WHEN (
        (OLD.gateway, OLD.owner, OLD.state, OLD.merged_into, OLD.cost, OLD.estimate, OLD.currency, OLD.stated,
            OLD.stated_currency)
        IS DISTINCT FROM
        (NEW.gateway, NEW.owner, NEW.state, NEW.merged_into, NEW.cost, NEW.estimate, NEW.currency, NEW.stated,
            NEW.stated_currency)
    ) EXECUTE FUNCTION count_changed_video();
    CREATE TRIGGER videos_removed AFTER DELETE ON videos FOR EACH ROW EXECUTE FUNCTION count_changed_video();
"""  # noqa: S608 - our own names
