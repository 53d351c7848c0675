-- Machinery that a replay never swaps: what is parked, intake's positions, the outbox.

create table {ops}.position (
    reader text not null,
    topic text not null,
    part int not null,
    epoch bigint not null,
    next_offset bigint not null,
    last_record text,
    as_of timestamptz not null,
    read_at timestamptz,
    log_end bigint not null,
    log_end_at timestamptz not null,
    backend int,
    owner text,
    claimed_at timestamptz not null,
    primary key (reader, topic, part)
) with (fillfactor = 50);
comment on table {ops}.position is 'How far a reader has come in one partition, and whose it is (the epoch is the fence).';

create table {ops}.parked (
    id bigint generated always as identity primary key,
    reason text not null check (reason in (
        'undecodable', 'invalid', 'unknown_type', 'newer_version', 'unstorable',
        'future', 'wrong_door', 'undefined_event', 'no_subject', 'erased')),
    detail text not null,
    type text,
    source text,
    event_id text,
    door text,
    topic text not null,
    part int not null,
    off bigint not null,
    event_time timestamptz,
    parked_at timestamptz not null default date_trunc('milliseconds', clock_timestamp()),
    bytes bytea not null,
    unique (topic, part, off)
);
create index parked_by_event on {ops}.parked (event_id);
create index parked_by_reason on {ops}.parked (reason, id);
comment on table {ops}.parked is 'What a reader could not fold, with the reason and the raw bytes; nothing vanishes (LAW-7).';

create table {ops}.schedule (
    name text primary key,
    cron text not null,
    slot timestamptz not null,
    fired_at timestamptz,
    ended_at timestamptz,
    owner text,
    outcome text
);
comment on table {ops}.schedule is 'What is done by the clock: the last slot that was taken, by whom, and what came of it (CEE-13).';

create table {ops}.outbox (
    id bigint generated always as identity primary key,
    home smallint not null,
    event_id uuid not null unique,
    topic text not null,
    key text not null,
    body bytea not null,
    created_at timestamptz not null default clock_timestamp()
);
create index outbox_by_home on {ops}.outbox (home, id);
comment on table {ops}.outbox is 'Commands decided in a fold''s transaction; the relay publishes them, the fold deletes them when it reads them back.';
