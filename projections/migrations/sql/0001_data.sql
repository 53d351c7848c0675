-- What a replay rebuilds beside the registry: facts, the rows, and the fold's own positions.

create table {data}.generation (
    only_one bool primary key default true check (only_one),
    revision text not null,
    live bool not null
);
insert into {data}.generation (revision, live) values ('', false);
comment on table {data}.generation is 'What this pair of schemas is: the revision of its tables, and whether it is the live one.';

create table {data}.position (like {ops}.position including all);

create table {data}.recalculation (
    home smallint not null,
    contact_id text collate "C" not null,
    reason text not null,
    since timestamptz not null,
    error text,
    primary key (home, contact_id)
);
comment on table {data}.recalculation is 'Contacts that wait to be computed anew, and why since when; taken by the owners of their homes (CEE-7, CEE-9).';

create table {data}.recalculation_cause (
    reason text primary key,
    since timestamptz not null,
    settled xid8,
    after text collate "C" not null default '',
    queued bigint not null default 0,
    finished bool not null default false
);
comment on table {data}.recalculation_cause is 'Why everyone is to be computed anew, and how far they have been put into the queue.';

-- Ids are told apart and put in order by their bytes, whatever language the database sorts in (LAW-1).
create table {data}.fact (
    subject text collate "C" not null,
    key uuid not null,
    source text collate "C" not null,
    id text collate "C" not null,
    type text not null,
    time timestamptz not null,
    version smallint not null,
    digest uuid not null,
    accepted timestamptz not null,
    test bool not null,
    part smallint not null,
    off bigint not null,
    mailing text,
    actor text,
    data text not null,
    sealed text,
    kid text collate "C",
    check ((sealed is null) = (kid is null))
);
create unique index fact_once on {data}.fact (subject, key) include (type, time, mailing, test);
create index fact_of_presence on {data}.fact (subject, time desc, id desc, source desc)
    include (type) where type in ('contact.deleted', 'contact.restored');
create index fact_of_consent on {data}.fact (subject, time desc, id desc, source desc)
    where type = 'contact.consent_changed';
-- Where an event is, by its id alone (`heed trace`): a Bloom filter for each megabyte, made by VACUUM. An
-- insert costs no more that can be measured; a tree over the ids would add 10 µs to it, and 60 bytes a fact.
create index fact_by_id on {data}.fact using brin (id text_bloom_ops);
alter table {data}.fact set (
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
comment on table {data}.fact is 'Every fact, once for ever: key is BLAKE2b-128 of source, NUL, id. Of two contents under one key the smaller (time, digest) stands.';
comment on column {data}.fact.data is 'What stands open of its data.';
comment on column {data}.fact.sealed is 'What is personal of its data, encrypted with the key that kid names (LAW-6).';

create table {data}.nudge (
    id bigint generated always as identity primary key,
    home smallint not null,
    subject text not null,
    reason text not null,
    error text,
    attempts int not null default 0,
    retry_at timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default clock_timestamp()
);
create index nudge_by_home on {data}.nudge (home, retry_at);
create index nudge_by_subject on {data}.nudge (subject);
comment on table {data}.nudge is 'Look at this subject again; appended by anyone, taken by the home''s owner alone.';

create table {data}.engagement (
    contact_id text collate "C" primary key,
    home smallint not null,
    date_first_click timestamptz,
    date_last_click timestamptz,
    frequency int not null,
    volume int not null,
    volume_last_30 int not null,
    period_months int not null,
    valid_until timestamptz not null
) with (fillfactor = 70);
create index engagement_due on {data}.engagement (home, valid_until);
create index engagement_by_frequency on {data}.engagement (frequency desc, contact_id);
create index engagement_by_last_click on {data}.engagement (date_last_click nulls first, contact_id);
comment on table {data}.engagement is 'One row per contact that clicked inside the window; valid_until is the instant the first window ends.';

-- The sets of identifiers that belong to a contact now: those of whose members it has the first that is
-- anybody's.
create function {data}.sets_of(root text) returns setof text
language sql stable parallel safe
begin atomic
    select s.subject from {data}.member m join {data}.set_member s on s.member = m.subject
    where m.root = sets_of.root
        and not exists (select from {data}.set_member o join {data}.member e on e.subject = o.member
            where o.subject = s.subject and o.rank < s.rank);
end;

-- Whatever belongs to a contact at an instant, itself included. Who belongs to whom now is the table
-- `member`, and follows from the links for an instant of the past.
create function {data}.subjects_of(contact text, upto timestamptz) returns setof text
language sql stable parallel safe
begin atomic
    select 'contact:' || contact
    union all
    select m.subject from {data}.member m where m.root = 'contact:' || contact and upto = 'infinity'
    union all
    select s.subject from {data}.sets_of('contact:' || contact) s(subject) where upto = 'infinity'
    union all
    select b.subject from {data}.members_at('contact:' || contact, upto) b(subject)
    where upto <> 'infinity' and b.subject <> 'contact:' || contact;
end;

-- The one function that says what a contact's row is at an instant: live row, timer, view, calculate, replay
-- and as-of all ask it. A contact that has no row at that instant is not among the answers. `upto` leaves out
-- facts dated later (as-of); live rows pass 'infinity', since admission judged what is too far ahead.
-- A window of months is added to its event, the day clamped, in UTC whatever the session's zone (interval '0'
-- is UTC without a look-up). A subject is hidden while the latest word on its presence, by (time, id), is its
-- deletion; with a root, all that belongs to it. Of the consents of all that belongs to a contact the most
-- restrictive holds, whoever is hidden: where one is refused, or for numbers of many alone, there are no
-- clicks (IDN-5, IDN-6). What ends after the year 9999, which is the last that clients can read, has its end
-- then: no T comes so far. `limit 1` tells the planner what the table `rule` promises.
create function {data}.engagement_at(contacts text[], at timestamptz, upto timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language sql stable parallel safe
begin atomic
    select c.contact_id, e.first_click, e.last_click, e.frequency::int, e.volume::int, e.volume_last_30::int,
        r.period_months, least(e.first_end + interval '1 millisecond', e.first_of_30
            + interval '720 hours 1 millisecond', timestamptz '9999-12-31 23:59:59.999+00')
    from (
        select period_months, keep_row_without_clicks, make_interval(months => period_months) as period,
            at - interval '720 hours' as since
        from {data}.rule_at(upto) limit 1
    ) r
    cross join unnest(contacts) as c(contact_id)
    cross join lateral (
        select exists (
            select from {data}.subjects_of(c.contact_id, upto) told(subject)
            cross join lateral (
                select p.data::jsonb->>'level' in ('refused', 'aggregate') as withholds from {data}.fact p
                where p.subject = told.subject and p.type = 'contact.consent_changed' and p.time <= upto
                order by p.time desc, p.id desc, p.source desc limit 1
            ) said
            where said.withholds) as withheld
    ) w
    cross join lateral (
        select min(f.time) filter (where f.clicked) as first_click,
            max(f.time) filter (where f.clicked) as last_click,
            count(distinct f.mailing) filter (where f.clicked) as frequency,
            count(distinct f.mailing) filter (where not f.clicked and at <= f.end_of_period) as volume,
            count(distinct f.mailing) filter (where not f.clicked and r.since <= f.time) as volume_last_30,
            min(f.end_of_period) filter (where at <= f.end_of_period) as first_end,
            min(f.time) filter (where not f.clicked and r.since <= f.time) as first_of_30
        from (
            select f.time, f.mailing, f.type = 'mail.clicked' as clicked,
                ((f.time at time zone interval '0') + r.period) at time zone interval '0' as end_of_period
            from {data}.subjects_of(c.contact_id, upto) told(subject)
            cross join lateral (
                select k.time, k.mailing, k.type from {data}.fact k
                where k.subject = told.subject
                    and (k.type = 'mail.delivered' or (k.type = 'mail.clicked' and not w.withheld))
                    and k.mailing is not null
                    and not k.test
                    and k.time <= upto
                offset 0  -- a look-up a subject, however small the table is when this is planned
            ) f
            where coalesce((
                    select p.type <> 'contact.deleted' from {data}.fact p
                    where p.subject = told.subject and p.type in ('contact.deleted', 'contact.restored')
                        and p.time <= upto
                    order by p.time desc, p.id desc, p.source desc limit 1), true)
        ) f
        where at <= f.end_of_period
            or (not f.clicked and r.since <= f.time)  -- a February is shorter than 30 days
    ) e
    where (e.frequency > 0 or (r.keep_row_without_clicks and e.volume > 0))
        and case when upto = 'infinity'
            then not exists (select from {data}.member m where m.subject = 'contact:' || c.contact_id)
            else {data}.root_at('contact:' || c.contact_id, upto) = 'contact:' || c.contact_id end
        and coalesce((
            select p.type <> 'contact.deleted' from {data}.fact p
            where p.subject = 'contact:' || c.contact_id
                and p.type in ('contact.deleted', 'contact.restored') and p.time <= upto
            order by p.time desc, p.id desc, p.source desc limit 1), true);
end;
