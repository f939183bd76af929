//! The tables, and how those of earlier programs become them.

use rusqlite::{Result, Transaction};

use super::LEGAL;

/// A payment that is `over` is 1 if it was paid for, and 2 if it came after its own end.
const TABLES: &str = "create table if not exists legal (
    was text not null, becomes text not null, primary key (was, becomes)
) strict, without rowid;
create table if not exists subscriptions (
    id text primary key,
    subscription text not null,
    desired text not null check (desired in ('running', 'stopped', 'gone')),
    state text not null,
    run text unique,
    stop text unique,
    phase text,
    agent text,
    anew integer not null default 0
) strict;
create table if not exists payments (
    event text primary key, subscription text not null, at integer not null, provider text,
    over integer not null default 0
) strict;
create table if not exists ends (
    event text primary key, subscription text not null, at integer not null, provider text
) strict;
create table if not exists aside (provider text primary key) strict, without rowid;
create table if not exists endings (
    subscription text primary key, payments integer not null, at integer not null
) strict;
create table if not exists health (
    subscription text primary key, run text not null, seen_at integer, asked_at integer not null,
    missed integer not null, told integer not null default 0
) strict;
create table if not exists mails (key text primary key, mail text not null) strict;
create table if not exists pulse (one integer primary key check (one = 1), beat integer not null)
    strict;
create trigger if not exists no_illegal_change before update of state on subscriptions
    when old.state <> new.state
        and not exists (select 1 from legal where was = old.state and becomes = new.state)
begin
    select raise(abort, 'no legal change of state');
end;
create trigger if not exists no_illegal_begin before insert on subscriptions
    when new.state <> 'pending'
begin
    select raise(abort, 'a subscription begins as pending');
end";

/// Of earlier programs, which knew no ids of the provider: what is over is told by time, or by what
/// people have said.
const IDS: &str = "alter table payments add column provider text;
alter table payments add column over integer not null default 0;
alter table ends add column provider text;
update payments set over = 1 where exists (select 1 from ends e
        where e.subscription = payments.subscription and e.at >= payments.at)
    or exists (select 1 from subscriptions s
        where s.id = payments.subscription and s.desired = 'gone')";

/// Of earlier programs, which mailed at the beat itself.
const TOLD: &str = "alter table health add column told integer not null default 0;
update health set told = 1 where missed > 1";

/// Of earlier programs, which began nothing anew.
const ANEW: &str = "alter table subscriptions add column anew integer not null default 0";

/// One purchase for each subscription of the provider, whichever of its events comes first.
const KEYS: &str = "create unique index if not exists payments_provider on payments (provider);
create index if not exists ends_provider on ends (provider)";

/// Makes what is not there.
pub(super) fn make(tx: &Transaction<'_>) -> Result<()> {
    tx.execute_batch(TABLES)?;
    if !has(tx, "payments", "provider")? {
        tx.execute_batch(IDS)?;
    }
    if !has(tx, "health", "told")? {
        tx.execute_batch(TOLD)?;
    }
    if !has(tx, "subscriptions", "anew")? {
        tx.execute_batch(ANEW)?;
    }
    tx.execute_batch(KEYS)?;
    let mut add = tx.prepare("insert or ignore into legal (was, becomes) values (?1, ?2)")?;
    LEGAL
        .iter()
        .try_for_each(|(was, becomes)| add.execute((was.as_str(), becomes.as_str())).map(drop))
}

fn has(tx: &Transaction<'_>, table: &str, column: &str) -> Result<bool> {
    let known = "select exists (select 1 from pragma_table_info(?1) where name = ?2)";
    tx.query_row(known, (table, column), |row| row.get(0))
}
