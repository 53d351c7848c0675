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
    subject text collate "C",
    door text,
    topic text not null,
    part int not null,
    off bigint not null,
    event_time timestamptz,
    parked_at timestamptz not null default date_trunc('milliseconds', clock_timestamp()),
    bytes bytea not null,
    batch bool not null default false,
    judged_by text not null default '',
    asked bool not null default false,
    hash bytea not null generated always as (sha256(bytes)) stored,
    unique (topic, part, off, hash)
);
create index parked_by_subject on {ops}.parked (subject) where subject is not null;
create index parked_by_event on {ops}.parked (event_id);
create index parked_by_reason on {ops}.parked (reason, id);
create index parked_by_type on {ops}.parked (type, id);
create index parked_by_group on {ops}.parked (reason, type, topic, door, parked_at);
create index parked_by_age on {ops}.parked (topic, part, parked_at);
create index parked_due on {ops}.parked (topic, part, event_time, id) where reason = 'future';
create index parked_unread on {ops}.parked (topic, part, id)
    where reason in ('unknown_type', 'newer_version');
create index parked_asked on {ops}.parked (topic, part, id) where asked;
comment on table {ops}.parked is 'What a reader could not fold, with the reason and the raw bytes; nothing vanishes (LAW-7).';
comment on column {ops}.parked.batch is 'Whether the bytes are a whole batch of records, as it lies on the broker: such a one cannot be driven again.';
comment on column {ops}.parked.hash is 'Tells apart what stood at one place before and after a topic was made anew.';
comment on column {ops}.parked.judged_by is 'Fingerprint of the table of event types that judged it last: a worker with another one judges again what it was too old to read.';
comment on column {ops}.parked.asked is 'Its partition''s owner was asked to fold it again (records of the log only).';

create table {ops}.data_key (
    kid text collate "C" primary key,
    subject text collate "C" not null,
    wrapped bytea,
    master text,
    destroyed bool not null check (destroyed = (wrapped is null)),
    off bigint not null
);
create index data_key_by_subject on {ops}.data_key (subject) where not destroyed;
comment on table {ops}.data_key is 'A cache of the topic keys: each subject''s keys, wrapped by the master key named, or destroyed for ever (LAW-6).';

create table {ops}.key_to_destroy (
    subject text collate "C" primary key
);
comment on table {ops}.key_to_destroy is 'Erased subjects whose keys are to be destroyed on the topic keys; gone once that is acknowledged.';

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

create table {ops}.refill (
    only_one bool primary key default true check (only_one),
    begun_at timestamptz not null default clock_timestamp()
);
comment on table {ops}.refill is 'The log is being written anew from the tables; until it is whole, nobody reads it.';

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
