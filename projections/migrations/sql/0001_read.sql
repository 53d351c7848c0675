-- What dashboards read: views over the projections, computed to the reader's instant.

-- Dashboards may read the views and nothing below them: what the view computes runs with its owner's rights.
create function {read}.engagement_overdue(contact_id text, at timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language sql stable security definer
begin atomic
    select * from {data}.engagement_at(array[engagement_overdue.contact_id], at, 'infinity');
end;

-- A transaction that keeps the snapshot of its first statement and goes on after `heed replay` has put other
-- tables in place would see them as they were then: half built. It is told so instead; others never are.
create function {read}.of_this_snapshot(live bool) returns bool
language plpgsql stable parallel safe as $$
begin
    if live is not true
        and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    then
        raise serialization_failure using
            message = 'the tables were replaced by heed replay after this transaction began',
            hint = 'Begin the transaction again.';
    end if;
    return true;
end $$;

create view {read}.contact_engagement as
select e.contact_id,
    case when e.valid_until > now.t then e.date_first_click else x.date_first_click end as date_first_click,
    l.date_last_click,
    case when l.date_last_click is not null  -- greatest() passes over nulls
        then greatest(0, floor(extract(epoch from now.t - l.date_last_click) / 86400))::int end as recency,
    case when e.valid_until > now.t then e.frequency else x.frequency end as frequency,
    case when e.valid_until > now.t then e.volume else x.volume end as volume,
    case when e.valid_until > now.t then e.volume_last_30 else x.volume_last_30 end as volume_last_30,
    e.period_months,
    now.t as date_calculated
from (select date_trunc('milliseconds', statement_timestamp()) as t) now
cross join {data}.engagement e
left join lateral (
    select * from {read}.engagement_overdue(e.contact_id, now.t) where e.valid_until <= now.t
) x on true
cross join lateral (
    select case when e.valid_until > now.t then e.date_last_click else x.date_last_click end
        as date_last_click
) l
where (e.valid_until > now.t or x.contact_id is not null)
    and (select {read}.of_this_snapshot(bool_or(g.live)) from {data}.generation g);

comment on view {read}.contact_engagement is 'Email engagement, one row per contact that clicked inside the window; never a value past its time.';
comment on column {read}.contact_engagement.contact_id is 'The contact''s id, as producers give it after contact: in the subject.';
comment on column {read}.contact_engagement.date_first_click is 'Time (UTC) of the earliest click inside the window.';
comment on column {read}.contact_engagement.date_last_click is 'Time (UTC) of the latest click inside the window.';
comment on column {read}.contact_engagement.recency is 'Whole 24-hour periods from date_last_click to date_calculated; 0 during the first 24 hours.';
comment on column {read}.contact_engagement.frequency is 'Distinct mailings clicked inside the window.';
comment on column {read}.contact_engagement.volume is 'Distinct mailings delivered inside the window; may be below frequency (delivered before, clicked inside).';
comment on column {read}.contact_engagement.volume_last_30 is 'Distinct mailings delivered in the last 30 times 24 hours.';
comment on column {read}.contact_engagement.period_months is 'Length of the window in months that this row was computed with.';
comment on column {read}.contact_engagement.date_calculated is 'The instant this answer is for: the start of the reading statement, in milliseconds.';

create view {read}.freshness as
select case when p.topic = 'registry' then 'registry' when p.reader = 'fold' then 'engagement'
        else p.reader end as projection,
    p.topic, p.part as partition, p.as_of, p.log_end, p.log_end_at,
    case when s.live then greatest(0, p.log_end - p.next_offset) end as lag_records,
    case when s.live then case when p.next_offset >= p.log_end then 0
        else greatest(0,
            extract(epoch from statement_timestamp() - coalesce(p.read_at, p.claimed_at)))::float8 end
    end as lag_seconds,
    case when s.live then 'live' else 'silent' end as owner_state
from (select * from {data}.position union all select * from {ops}.position) p
cross join lateral (select p.as_of > statement_timestamp() - interval '10 seconds' as live) s
where (select {read}.of_this_snapshot(bool_or(g.live)) from {data}.generation g);

comment on view {read}.freshness is 'How fresh each projection is, per partition that feeds it.';
comment on column {read}.freshness.projection is 'What is kept fresh: engagement (rows folded from the log), registry (settings, keys of the API), keys (data keys), intake (doors to the log).';
comment on column {read}.freshness.topic is 'The topic read.';
comment on column {read}.freshness.partition is 'The partition of the topic.';
comment on column {read}.freshness.as_of is 'The instant up to which rows of this partition''s home are brought.';
comment on column {read}.freshness.log_end is 'End of the partition as its owner last saw it.';
comment on column {read}.freshness.log_end_at is 'When the owner last saw that end.';
comment on column {read}.freshness.lag_records is 'Records not read yet; null while the owner is silent.';
comment on column {read}.freshness.lag_seconds is 'Seconds since the append time of the last record read while records wait, else 0; null while the owner is silent.';
comment on column {read}.freshness.owner_state is 'live, or silent when the owner has said nothing for 10 seconds.';

create view {read}.parked as
select id, reason, detail, type, source, event_id, door, topic, part as partition, off as "offset",
    event_time, parked_at
from {ops}.parked;

comment on view {read}.parked is 'What could not be folded, and why; never the bytes.';
comment on column {read}.parked.id is 'Number of the parked record; the newest is the largest.';
comment on column {read}.parked.reason is 'One of: undecodable, invalid, unknown_type, newer_version, unstorable, future, wrong_door, undefined_event, no_subject, erased.';
comment on column {read}.parked.detail is 'What is wrong and what to do; never a value that was sent.';
comment on column {read}.parked.type is 'CloudEvents type, if it could be read.';
comment on column {read}.parked.source is 'CloudEvents source, if it could be read.';
comment on column {read}.parked.event_id is 'CloudEvents id, if it could be read.';
comment on column {read}.parked.door is 'The door topic it came by; null when it stood on the log.';
comment on column {read}.parked.topic is 'The topic where the record stands.';
comment on column {read}.parked.partition is 'Its partition.';
comment on column {read}.parked."offset" is 'Its offset.';
comment on column {read}.parked.event_time is 'CloudEvents time, if it could be read.';
comment on column {read}.parked.parked_at is 'When it was parked.';

grant usage on schema {read} to heed_dashboard;
grant select on all tables in schema {read} to heed_dashboard;
