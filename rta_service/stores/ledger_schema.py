"""The tables of the ledger's file."""

from typing import Final

VERSION: Final = 2
"""Kept in the file as its `user_version`; an older one's file is brought up to date by its writer."""

_FEED: Final = """
-- what cost control is told, a row a transaction; numbers begin at the file's making in ms, so that
-- those of a new ledger are higher than those of one that was moved away
CREATE TABLE control_feed(number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER, body BLOB);
INSERT INTO sqlite_sequence SELECT 'control_feed', 1000 * CAST(strftime('%s', 'now') AS INTEGER)
"""

MIGRATIONS: Final = {1: _FEED}
"""From each older version to the next."""

SCHEMA: Final = (
    """
CREATE TABLE fact(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO fact VALUES ('cursor', ''), ('newest_ms', 0), ('counted', 0), ('copies', 0),
    ('late', 0), ('swept', 0);

-- what an event is known by: a copy finds it here
CREATE TABLE event(ts INTEGER, key INTEGER, PRIMARY KEY(ts, key)) WITHOUT ROWID;

CREATE TABLE place(id INTEGER PRIMARY KEY, hour INTEGER, channel TEXT, strategy TEXT,
    campaign TEXT, arm TEXT, release TEXT,
    UNIQUE(hour, channel, strategy, campaign, arm, release));

CREATE TABLE click(person INTEGER, ts INTEGER, key INTEGER, place INTEGER,
    PRIMARY KEY(person, ts, key)) WITHOUT ROWID;
CREATE TABLE named(name INTEGER, kind INTEGER, ts INTEGER, key INTEGER, place INTEGER,
    PRIMARY KEY(name, kind, ts, key)) WITHOUT ROWID;

-- no method: does not count
CREATE TABLE conversion(ts INTEGER, key INTEGER, body BLOB, method TEXT, place INTEGER,
    touch_ts INTEGER, touch_key INTEGER, is_first INTEGER, PRIMARY KEY(ts, key)) WITHOUT ROWID;
-- conversions of a person or of a name
CREATE TABLE kin(kin INTEGER, ts INTEGER, key INTEGER, goal TEXT,
    PRIMARY KEY(kin, ts, key)) WITHOUT ROWID;
CREATE INDEX kin_goal ON kin(kin, goal, ts, key);
CREATE TABLE paid(paid_order INTEGER, is_trade INTEGER, ts INTEGER, key INTEGER,
    PRIMARY KEY(paid_order, is_trade, ts, key)) WITHOUT ROWID;

-- no goal: takes nothing off
CREATE TABLE refund(ts INTEGER, key INTEGER, paid_order INTEGER, cents INTEGER, paid_ts INTEGER,
    paid_key INTEGER, place INTEGER, goal TEXT, is_first INTEGER,
    PRIMARY KEY(ts, key)) WITHOUT ROWID;
CREATE INDEX refund_order ON refund(paid_order, ts, key);
CREATE INDEX refund_paid ON refund(paid_ts, paid_key, cents);

-- a sum beyond 64 bits would silently become an inexact number: the check refuses it
CREATE TABLE touch_sum(place INTEGER, kind INTEGER, touches INTEGER, told INTEGER,
    register_nanos INTEGER CHECK (typeof(register_nanos) = 'integer'),
    trade_nanos INTEGER CHECK (typeof(trade_nanos) = 'integer'),
    cost_micros INTEGER CHECK (typeof(cost_micros) = 'integer'),
    PRIMARY KEY(place, kind)) WITHOUT ROWID;
CREATE TABLE goal_sum(place INTEGER, goal TEXT, conversions INTEGER,
    cents INTEGER CHECK (typeof(cents) = 'integer'), PRIMARY KEY(place, goal)) WITHOUT ROWID;
CREATE TABLE report(place INTEGER PRIMARY KEY,
    cost_micros INTEGER CHECK (typeof(cost_micros) = 'integer'));
"""
    + _FEED
)
